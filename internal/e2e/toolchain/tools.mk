# What the tests run that is not Go, pinned, in build/tools: one folder each, with a file
# `ok` in it once it is whole. internal/e2e/toolchain finds them. A further tool is one more rule and its name here.
TOOLS     := python node java moto
TOOLCHAIN := internal/e2e/toolchain
NODE_HERE := node_modules/node-linux-$(subst x86_64,x64,$(subst aarch64,arm64,$(shell uname -m)))

tools: ## install what the tests need of Python, Node.js and Java into build/tools
	@mkdir -p build/tools; missing=0; \
	for tool in $(TOOLS); do \
	  $(MAKE) -s --no-print-directory build/tools/$$tool/ok >build/tools/$$tool.log 2>&1 && continue; \
	  missing=$$((missing + 1)); tail -n 5 build/tools/$$tool.log; \
	  echo "SKIPPED: every test that needs $$tool: it could not be installed (build/tools/$$tool.log)"; \
	done; \
	test $$missing = 0 || echo "SKIPPED: $$missing of $(words $(TOOLS)) toolchains"; \
	test $$missing = 0 || test "$$CI" != true || { echo "with CI=true that is a failure"; exit 1; }

# Python with Lambda's runtime client and the packages of examples/python.
build/tools/python/ok: examples/python/requirements.txt $(TOOLCHAIN)/python/requirements.txt
	rm -rf $(@D)
	python3 -m venv $(@D)
	$(@D)/bin/pip install -q -r examples/python/requirements.txt -r $(TOOLCHAIN)/python/requirements.txt
	touch $@

# AWS's services as a server.
build/tools/moto/ok: $(TOOLCHAIN)/moto/requirements.txt
	rm -rf $(@D)
	python3 -m venv $(@D)
	$(@D)/bin/pip install -q -r $<
	touch $@

# runtime/ has Node.js and Lambda's runtime client, whose addon is built (cmake, make and g++) with the headers that
# come with that Node.js; function/ is examples/node as a user deploys it, with its packages.
build/tools/node/ok: build/tools/node/installed $(wildcard examples/node/*.mjs)
	cp examples/node/*.mjs $(@D)/function
	touch $@

build/tools/node/installed: $(wildcard examples/node/package*.json $(TOOLCHAIN)/node/package*.json)
	rm -rf $(@D)
	mkdir -p $(@D)/function $(@D)/runtime
	cp examples/node/package*.json $(@D)/function
	cp $(TOOLCHAIN)/node/package*.json $(@D)/runtime
	cd $(@D)/function && npm ci --silent --ignore-scripts
	cd $(@D)/runtime && npm ci --silent --ignore-scripts
	cd $(@D)/runtime && PATH=$$PWD/$(NODE_HERE)/bin:$$PATH npm_config_nodedir=$$PWD/$(NODE_HERE) npm rebuild aws-lambda-ric
	test -f $(@D)/runtime/node_modules/aws-lambda-ric/rapid-client.node
	ln -s $(NODE_HERE)/bin/node $(@D)/runtime/node
	touch $@

# function.jar is examples/java as a user deploys it; runtime/ has Lambda's runtime client. sender/ has the SDK's other
# HTTP client, the JDK's in place of OkHttp, for the tests to put in front.
build/tools/java/ok: $(shell find examples/java -type f) $(TOOLCHAIN)/java/pom.xml
	rm -rf $(@D)
	mkdir -p $(@D)
	cp -r examples/java $(@D)/function
	cp -r $(TOOLCHAIN)/java $(@D)/runtime
	cd $(@D)/function && mvn -q -B package
	cd $(@D)/runtime && mvn -q -B dependency:copy-dependencies -DoutputDirectory=.
	cd $(@D)/runtime && mvn -q -B dependency:copy -DoutputDirectory=../sender \
	  -Dartifact=io.opentelemetry:opentelemetry-exporter-sender-jdk:1.68.0
	touch $@
