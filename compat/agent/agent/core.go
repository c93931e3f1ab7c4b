package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/credentials"
)

// core has credentials for the worker: of the machine's profile if that may, else of the role that is passed to machines.
type core struct {
	machine  *machine
	services *services
	vault    vault
	pace     float64
}

type registerInput struct {
	Fingerprint   *string
	PublicKey     *string
	PublicKeyType *string
}

type registerOutput struct{ InstanceId *string }

type tokenInput struct{ Fingerprint *string }

type tokenOutput struct {
	AccessKeyId         *string
	SecretAccessKey     *string
	SessionToken        *string
	TokenExpirationDate *time.Time `type:"timestamp"`
	UpdateKeyPair       *bool
}

// keepCredentials refreshes them for ever, and says when there are some for the first time.
func (c *core) keepCredentials(ending context.Context, ready chan<- struct{}) {
	c.register(ending)
	wait := time.Duration(0)
	if session, good := c.vault.session(); good && session.InstanceID == c.machine.id {
		tell("credentials", facts{"source": session.Source, "key": session.AccessKeyID, "kept": true})
		wait = time.Until(session.RetrievedAt.Add(session.ExpiresAt.Sub(session.RetrievedAt) / 2))
		close(ready)
		ready = nil
	}
	for failures := 0; pause(ending, wait, c.pace); {
		session, err := c.refresh()
		if err == nil {
			err = c.vault.share(session)
		}
		if err != nil {
			failures++
			wait = afterFailure(codeOf(err), failures)
			tell("no credentials", facts{"code": codeOf(err), "message": messageOf(err), "wait": wait.Seconds()})
			continue
		}
		failures = 0
		wait = session.ExpiresAt.Sub(session.RetrievedAt) / 2
		tell("credentials", facts{"source": session.Source, "key": session.AccessKeyID, "wait": wait.Seconds()})
		if ready != nil {
			close(ready)
			ready = nil
		}
	}
}

// afterFailure is how long the agent sleeps: long after what does not mend itself.
func afterFailure(code string, failures int) time.Duration {
	switch {
	case code == "AccessDeniedException", code == "MachineFingerprintDoesNotMatch":
		return 25*time.Minute + time.Duration(rand.Int64N(int64(5*time.Minute)))
	case failures == 1:
		return 5 * time.Minute
	default:
		return min(time.Duration(failures)*5*time.Minute, time.Hour)
	}
}

// register registers once: until the disk says that it was done for this very machine. Whether that is so, it learns no
// other way: told that it is registered already, it believes that, and has no registration to go on with.
func (c *core) register(ending context.Context) {
	for tries := 1; ; tries++ {
		err := c.registerOnce()
		if err == nil || codeOf(err) == "InstanceAlreadyRegistered" {
			return
		}
		wait := max(15*time.Second, time.Duration(1<<min(tries, 12))*time.Second)
		tell("not registered", facts{"code": codeOf(err), "message": messageOf(err), "wait": wait.Seconds()})
		if !pause(ending, wait, c.pace) {
			return
		}
	}
}

func (c *core) registerOnce() error {
	kept, exists, err := c.vault.registration()
	if err != nil {
		return err
	}
	if exists && kept.InstanceID == c.machine.id {
		tell("registered", facts{"kept": true})
		return nil
	}
	if exists {
		// A disk that was cloned, or an agent that did not live to see the answer.
		tell("found keys", facts{"of": kept.InstanceID})
	} else {
		if kept, err = newRegistration(); err != nil {
			return err
		}
		if err := c.vault.keep(kept); err != nil {
			return err
		}
	}
	identity, err := c.machine.identity()
	if err != nil {
		return err
	}
	input := registerInput{
		Fingerprint: aws.String(c.machine.id), PublicKey: aws.String(kept.PublicKey), PublicKeyType: aws.String("Rsa"),
	}
	output := registerOutput{}
	if err := c.services.call("ssm", "RegisterManagedInstance", identity, nil, &input, &output); err != nil {
		return err
	}
	kept.InstanceID, kept.Region = c.machine.id, c.machine.region
	if err := c.vault.keep(kept); err != nil {
		return err
	}
	tell("registered", facts{"kept": false, "answer": aws.StringValue(output.InstanceId)})
	return nil
}

// refresh chooses: the profile's credentials if Systems Manager lets them in; else, and only if it was one of three reasons
// that speak against the profile itself, the role that is passed.
func (c *core) refresh() (shared, error) {
	profile := c.machine.profile()
	value, err := profile.Get()
	if err == nil {
		err = inform(c.services, profile, minimal(c.machine.id))
	}
	switch codeOf(err) {
	case "":
		now := time.Now()
		return shared{
			InstanceID: c.machine.id, Source: "EC2", RetrievedAt: now, ExpiresAt: now.Add(time.Hour),
			AccessKeyID: value.AccessKeyID, SecretAccessKey: value.SecretAccessKey, SessionToken: value.SessionToken,
		}, nil
	case "AccessDeniedException", "EC2RoleRequestError", "AssumeRoleUnauthorizedAccess":
		tell("no profile", facts{"code": codeOf(err)})
		return c.passed()
	default:
		return shared{}, err
	}
}

// passed asks for a session of the role that is passed to machines.
func (c *core) passed() (shared, error) {
	kept, exists, err := c.vault.registration()
	if err != nil {
		return shared{}, err
	}
	if !exists || kept.InstanceID != c.machine.id {
		return shared{}, errNotRegistered
	}
	key, err := kept.key()
	if err != nil {
		return shared{}, err
	}
	identity, err := c.machine.identity()
	if err != nil {
		return shared{}, err
	}
	input, output := tokenInput{aws.String(c.machine.id)}, tokenOutput{}
	now := time.Now()
	if err := c.services.call("ssm", "RequestManagedInstanceRoleToken", identity, key, &input, &output); err != nil {
		return shared{}, err
	}
	return shared{
		InstanceID: c.machine.id, Source: "SSM", RetrievedAt: now, ExpiresAt: *output.TokenExpirationDate,
		AccessKeyID: *output.AccessKeyId, SecretAccessKey: *output.SecretAccessKey, SessionToken: *output.SessionToken,
	}, nil
}

type plainError string

func (e plainError) Error() string { return string(e) }

const errNotRegistered = plainError("ec2 instance not yet registered")

// informInput is what an agent says of its machine.
type informInput struct {
	AgentName            *string
	AgentVersion         *string
	InstanceId           *string
	PlatformType         *string
	AgentStatus          *string
	AvailabilityZone     *string
	AvailabilityZoneId   *string
	ComputerName         *string
	IPAddress            *string
	PlatformName         *string
	PlatformVersion      *string
	SSMConnectionChannel *string
}

type nothing struct{}

func minimal(id string) informInput {
	return informInput{
		AgentName: aws.String("amazon-ssm-agent"), AgentVersion: aws.String(version), InstanceId: aws.String(id),
		PlatformType: aws.String("Linux"),
	}
}

func inform(services *services, as *credentials.Credentials, what informInput) error {
	return services.call("ssm", "UpdateInstanceInformation", as, nil, &what, &nothing{})
}
