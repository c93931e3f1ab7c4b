package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/credentials"
	"github.com/aws/aws-sdk-go/aws/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go/aws/ec2metadata"
	"github.com/aws/aws-sdk-go/aws/session"
)

const identityPath = "identity-credentials/ec2/security-credentials/ec2-instance"

// machine is where the agent runs, as the metadata service says.
type machine struct {
	id       string
	region   string
	metadata *ec2metadata.EC2Metadata
	// Version 1 of the service is good enough for a profile's credentials, and for them alone.
	lenient *ec2metadata.EC2Metadata
}

func findMachine(pace float64) (*machine, error) {
	where, err := session.NewSession()
	if err != nil {
		return nil, err
	}
	config := aws.NewConfig().WithMaxRetries(3)
	if endpoint := os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"); endpoint != "" {
		config = config.WithEndpoint(endpoint + "/latest")
	}
	found := &machine{
		metadata: ec2metadata.New(where, config, aws.NewConfig().WithEC2MetadataEnableFallback(false)),
		lenient:  ec2metadata.New(where, config),
	}
	for try := 1; ; try++ {
		if err = found.ask(); err == nil {
			return found, nil
		}
		if try == 3 {
			return nil, fmt.Errorf("no identity: %w", err)
		}
		time.Sleep(time.Duration(500 * float64(time.Millisecond) / pace))
	}
}

func (m *machine) ask() error {
	id, err := m.metadata.GetMetadata("instance-id")
	if err != nil {
		return err
	}
	text, err := m.metadata.GetDynamicData("instance-identity/document")
	if err != nil {
		return err
	}
	var document struct{ Region string }
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		return err
	}
	m.id, m.region = id, document.Region
	return nil
}

// identity gives the credentials of the machine's identity role.
func (m *machine) identity() (*credentials.Credentials, error) {
	text, err := m.metadata.GetMetadata(identityPath)
	if err != nil {
		return nil, err
	}
	var found struct{ Code, AccessKeyId, SecretAccessKey, Token string }
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		return nil, err
	}
	if found.Code != "Success" {
		return nil, errors.New("the identity role's credentials: " + found.Code)
	}
	return credentials.NewStaticCredentials(found.AccessKeyId, found.SecretAccessKey, found.Token), nil
}

// profile gives the credentials of the machine's instance profile.
func (m *machine) profile() *credentials.Credentials {
	return credentials.NewCredentials(&ec2rolecreds.EC2RoleProvider{Client: m.lenient})
}
