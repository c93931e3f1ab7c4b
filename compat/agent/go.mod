module inborn.test/agent

go 1.24

require (
	github.com/aws/aws-sdk-go v1.51.20
	github.com/gorilla/websocket v1.5.3
)

require github.com/jmespath/go-jmespath v0.4.0 // indirect
