// Command lambdago is a function on AWS's own Go runtime client. With "meet" in the payload it waits until a
// second invocation runs beside it, with "stuck" for ever.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type request struct {
	Name string
	Meet bool
	Fail bool
	Exit bool

	Stuck bool
}

func main() {
	meeting := make(chan struct{})
	handle := func(ctx context.Context, req request) (string, error) {
		if _, ok := ctx.Deadline(); !ok {
			return "", fmt.Errorf("no deadline")
		}
		switch {
		case req.Exit:
			os.Exit(3)
		case req.Fail:
			return "", fmt.Errorf("asked to fail")
		case req.Stuck:
			time.Sleep(24 * time.Hour)
		case req.Meet:
			select {
			case meeting <- struct{}{}:
			case <-meeting:
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		lc, _ := lambdacontext.FromContext(ctx)
		return req.Name + " " + lc.AwsRequestID + " " + lambdacontext.FunctionName, nil
	}
	lambda.StartWithOptions(handle, lambda.WithEnableSIGTERM(func() { fmt.Println("SIGTERM handler") }))
}
