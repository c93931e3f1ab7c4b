// The AWS SDK for Go v2, as a user has it: `gov2 MODE…` prints one line of JSON, keyed by mode.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

type told struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

func what(err error) told {
	var answer *smithyhttp.ResponseError
	var api smithy.APIError
	result := told{}
	if err == nil {
		result.Status = 200
		return result
	}
	if errors.As(err, &answer) {
		result.Status = answer.HTTPStatusCode()
	}
	if errors.As(err, &api) {
		result.Code, result.Message = api.ErrorCode(), api.ErrorMessage()
	} else {
		result.Message = err.Error()
	}
	return result
}

func whoami(ctx context.Context, cfg aws.Config) (any, error) {
	answer, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	if err != nil {
		return nil, err
	}
	attempts, _ := retry.GetAttemptResults(answer.ResultMetadata)
	return map[string]any{
		"Arn": *answer.Arn, "UserId": *answer.UserId, "Account": *answer.Account, "Attempts": len(attempts.Results),
	}, nil
}

func refusals(ctx context.Context, cfg aws.Config) (any, error) {
	cfg.RetryMaxAttempts = 1
	_, session := sts.NewFromConfig(cfg).GetSessionToken(ctx, nil)
	_, queues := sqs.NewFromConfig(cfg).ListQueues(ctx, nil)
	_, users := iam.NewFromConfig(cfg).ListUsers(ctx, nil)
	_, buckets := s3.NewFromConfig(cfg).ListBuckets(ctx, nil)
	return map[string]told{
		"sts GetSessionToken": what(session),
		"sqs ListQueues":      what(queues),
		"iam ListUsers":       what(users),
		"s3 ListBuckets":      what(buckets),
	}, nil
}

func metadata(ctx context.Context, cfg aws.Config) (any, error) {
	client := imds.NewFromConfig(cfg)
	read := func(path string) ([]byte, error) {
		answer, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
		if err != nil {
			return nil, err
		}
		defer answer.Content.Close()
		return io.ReadAll(answer.Content)
	}
	instance, err := read("instance-id")
	if err != nil {
		return nil, err
	}
	region, err := client.GetRegion(ctx, nil)
	if err != nil {
		return nil, err
	}
	document, err := read("identity-credentials/ec2/security-credentials/ec2-instance")
	if err != nil {
		return nil, err
	}
	var credentials struct{ AccessKeyId string }
	err = json.Unmarshal(document, &credentials)
	return map[string]string{"instance": string(instance), "region": region.Region, "key": credentials.AccessKeyId}, err
}

func presign(ctx context.Context, cfg aws.Config) (any, error) {
	signed, err := sts.NewPresignClient(sts.NewFromConfig(cfg)).PresignGetCallerIdentity(ctx, nil)
	if err != nil {
		return nil, err
	}
	return map[string]any{"method": signed.Method, "url": signed.URL, "headers": signed.SignedHeader}, nil
}

func main() {
	ctx := context.Background()
	modes := map[string]func(context.Context, aws.Config) (any, error){
		"whoami": whoami, "refusals": refusals, "metadata": metadata, "presign": presign,
	}
	results := map[string]any{}
	cfg, err := config.LoadDefaultConfig(ctx)
	for _, name := range os.Args[1:] {
		if err == nil {
			results[name], err = modes[name](ctx, cfg)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(results)
}
