package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/awserr"
	"github.com/aws/aws-sdk-go/aws/client"
	"github.com/aws/aws-sdk-go/aws/client/metadata"
	"github.com/aws/aws-sdk-go/aws/credentials"
	"github.com/aws/aws-sdk-go/aws/defaults"
	"github.com/aws/aws-sdk-go/aws/request"
	"github.com/aws/aws-sdk-go/aws/signer/v4"
	"github.com/aws/aws-sdk-go/private/protocol/jsonrpc"
)

// secondSignature is spelled as Go would not spell it. When the SDK tries again it copies the request's headers, under Go's
// spelling: the old value stays beside the new one, and the new first signature covers it.
const secondSignature = "SSM-AsymmetricKeyAuthorization"

// services are called in JSON.
type services struct {
	region   string
	endpoint string
	pace     float64
}

// host is where a service is.
func (s *services) host(service string) string {
	if s.endpoint != "" {
		return s.endpoint
	}
	return "https://" + service + "." + s.region + ".amazonaws.com"
}

// gateway is the URL of a channel of the message gateway.
func (s *services) gateway(scheme, path string) (string, error) {
	found, err := url.Parse(s.host("ssmmessages"))
	if err != nil {
		return "", err
	}
	return scheme + "://" + found.Host + path, nil
}

// call sends one operation of Systems Manager (`ssm`) or of its message delivery (`ec2messages`).
func (s *services) call(service, operation string, as *credentials.Credentials, key *rsa.PrivateKey, in, out any) error {
	return s.callWithin(context.Background(), service, operation, as, key, in, out)
}

// callWithin is a call that is given up when the context ends.
func (s *services) callWithin(
	within context.Context, service, operation string, as *credentials.Credentials, key *rsa.PrivateKey, in, out any,
) error {
	target := map[string]string{"ssm": "AmazonSSM", "ec2messages": "EC2WindowsMessageDeliveryService"}[service]
	retries := client.DefaultRetryer{
		NumMaxRetries:    3,
		MinRetryDelay:    time.Duration(float64(time.Second) / s.pace),
		MinThrottleDelay: time.Duration(float64(time.Second) / s.pace),
	}
	config := request.WithRetryer(aws.NewConfig().WithCredentials(as).WithRegion(s.region), retries)
	config.HTTPClient = &http.Client{Timeout: 40 * time.Second}
	handlers := defaults.Handlers()
	handlers.Sign.PushBackNamed(v4.SignRequestHandler)
	if key != nil {
		handlers.Sign.PushBack(func(r *request.Request) { signAgain(r, key) })
	}
	handlers.Build.PushBackNamed(jsonrpc.BuildHandler)
	handlers.Build.PushBack(request.MakeAddToUserAgentHandler("amazon-ssm-agent", version))
	handlers.Unmarshal.PushBackNamed(jsonrpc.UnmarshalHandler)
	handlers.UnmarshalMeta.PushBackNamed(jsonrpc.UnmarshalMetaHandler)
	handlers.UnmarshalError.PushBackNamed(jsonrpc.UnmarshalErrorHandler)
	caller := client.New(*config, metadata.ClientInfo{
		ServiceName: service, SigningName: service, SigningRegion: s.region, Endpoint: s.host(service),
		APIVersion: "2014-11-06", JSONVersion: "1.1", TargetPrefix: target,
	}, handlers)
	sent := caller.NewRequest(&request.Operation{Name: operation, HTTPMethod: "POST", HTTPPath: "/"}, in, out)
	sent.SetContext(within)
	err := sent.Send()
	status := 0
	if sent.HTTPResponse != nil {
		status = sent.HTTPResponse.StatusCode
	}
	tell("call", facts{
		"service": service, "operation": operation, "status": status, "code": codeOf(err), "message": messageOf(err),
		"tries": sent.RetryCount + 1, "stale": len(sent.HTTPRequest.Header["Ssm-Asymmetrickeyauthorization"]),
	})
	return err
}

// signAgain adds the signature of the agent's key over the first one.
func signAgain(r *request.Request, key *rsa.PrivateKey) {
	if r.Error != nil {
		return
	}
	digest := sha256.Sum256([]byte(r.HTTPRequest.Header.Get("Authorization")))
	signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: 32})
	if err != nil {
		r.Error = err
		return
	}
	value := "Signature=" + base64.StdEncoding.EncodeToString(signature)
	r.HTTPRequest.Header[secondSignature] = []string{value}
}

func codeOf(err error) string {
	var known awserr.Error
	if errors.As(err, &known) {
		return known.Code()
	}
	if err != nil {
		return "Other"
	}
	return ""
}

func messageOf(err error) string {
	var known awserr.Error
	if errors.As(err, &known) {
		return known.Message()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}
