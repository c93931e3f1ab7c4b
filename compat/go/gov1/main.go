// The AWS SDK for Go v1, as the SSM Agent has it: `gov1 MODE…` prints one line of JSON, keyed by mode.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/awserr"
	"github.com/aws/aws-sdk-go/aws/ec2metadata"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/iam"
	"github.com/aws/aws-sdk-go/service/s3"
	"github.com/aws/aws-sdk-go/service/sqs"
	"github.com/aws/aws-sdk-go/service/sts"
)

type told struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func what(err error) told {
	var answer awserr.RequestFailure
	if err == nil {
		return told{Status: 200}
	}
	if errors.As(err, &answer) {
		return told{answer.StatusCode(), answer.Code(), answer.Message()}
	}
	return told{Message: err.Error()}
}

func whoami(where *session.Session) (any, error) {
	request, answer := sts.New(where).GetCallerIdentityRequest(nil)
	if err := request.Send(); err != nil {
		return nil, err
	}
	return map[string]any{
		"Arn": *answer.Arn, "UserId": *answer.UserId, "Account": *answer.Account, "Attempts": request.RetryCount + 1,
	}, nil
}

func presign(where *session.Session) (any, error) {
	request, _ := sts.New(where).GetCallerIdentityRequest(nil)
	url, headers, err := request.PresignRequest(time.Minute)
	if err != nil {
		return nil, err
	}
	return map[string]any{"method": request.HTTPRequest.Method, "url": url, "headers": headers}, nil
}

func refusals(where *session.Session) (any, error) {
	once := aws.NewConfig().WithMaxRetries(0)
	_, token := sts.New(where, once).GetSessionToken(nil)
	_, queues := sqs.New(where, once).ListQueues(nil)
	_, users := iam.New(where, once).ListUsers(nil)
	_, buckets := s3.New(where, once).ListBuckets(nil)
	return map[string]told{
		"sts GetSessionToken": what(token),
		"sqs ListQueues":      what(queues),
		"iam ListUsers":       what(users),
		"s3 ListBuckets":      what(buckets),
	}, nil
}

func metadata(where *session.Session) (any, error) {
	// The endpoint of the API is none of metadata's.
	client := ec2metadata.New(where, aws.NewConfig().WithEndpoint(metadataEndpoint()))
	instance, err := client.GetMetadata("instance-id")
	if err != nil {
		return nil, err
	}
	region, err := client.Region()
	if err != nil {
		return nil, err
	}
	document, err := client.GetMetadata("identity-credentials/ec2/security-credentials/ec2-instance")
	if err != nil {
		return nil, err
	}
	var credentials struct{ AccessKeyId string }
	err = json.Unmarshal([]byte(document), &credentials)
	return map[string]string{"instance": instance, "region": region, "key": credentials.AccessKeyId}, err
}

func metadataEndpoint() string {
	if endpoint := os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"); endpoint != "" {
		return endpoint + "/latest"
	}
	return ""
}

func main() {
	modes := map[string]func(*session.Session) (any, error){
		"whoami": whoami, "refusals": refusals, "metadata": metadata, "presign": presign,
	}
	config := aws.NewConfig()
	// This SDK does not read AWS_ENDPOINT_URL: its users set the endpoint in code.
	if endpoint := os.Getenv("AWS_ENDPOINT_URL"); endpoint != "" {
		config = config.WithEndpoint(endpoint)
	}
	results := map[string]any{}
	where, err := session.NewSession(config)
	for _, name := range os.Args[1:] {
		if err == nil {
			results[name], err = modes[name](where)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(results)
}
