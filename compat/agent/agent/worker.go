package main

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/credentials"
)

// worker is what the agent does with its credentials: it says that it is there, and does what it is told.
type worker struct {
	settings
	machine     *machine
	services    *services
	credentials *credentials.Credentials
	// Which way its messages come, as it tells: nothing while that is not known.
	channel atomic.Value
}

type associationsInput struct {
	InstanceId *string
	MaxResults *int64
}

type associationsOutput struct {
	Associations []*nothing
}

func (w *worker) run(ending context.Context) {
	w.channel.Store("")
	if !w.awake(ending) {
		return
	}
	jobs := newJobs(w)
	polls := &polls{worker: w, jobs: jobs}
	polls.start(ending)
	control := &control{worker: w, jobs: jobs, onOpen: polls.stopLater, onDenied: func() { polls.start(ending) }}
	go control.run(ending)
	go w.associate(ending)
	w.beHealthy(ending)
}

// awake is the gate: an agent whose first word is refused says nothing else than that word, ever more seldom.
func (w *worker) awake(ending context.Context) bool {
	for wait := 5 * time.Minute; ; wait = min(max(2*wait, 10*time.Minute), time.Hour) {
		err := inform(w.services, w.credentials, minimal(w.machine.id))
		if err == nil {
			tell("online", nil)
			return true
		}
		tell("hibernating", facts{"code": codeOf(err), "wait": wait.Seconds()})
		if !pause(ending, wait, w.pace) {
			return false
		}
	}
}

// beHealthy says all there is to say at once, then at a random moment, then every five minutes.
func (w *worker) beHealthy(ending context.Context) {
	const every = 5 * time.Minute
	for wait := time.Duration(rand.Int64N(int64(every))); ; wait = every {
		_ = inform(w.services, w.credentials, w.full())
		if !pause(ending, wait, w.pace) {
			return
		}
	}
}

func (w *worker) full() informInput {
	said := minimal(w.machine.id)
	zone, _ := w.machine.metadata.GetMetadata("placement/availability-zone")
	zoneID, _ := w.machine.metadata.GetMetadata("placement/availability-zone-id")
	address, _ := w.machine.metadata.GetMetadata("local-ipv4")
	channel, _ := w.channel.Load().(string)
	said.AgentStatus = aws.String("Active")
	said.AvailabilityZone, said.AvailabilityZoneId = aws.String(zone), aws.String(zoneID)
	said.ComputerName, said.IPAddress = aws.String(w.computer), aws.String(address)
	said.PlatformName, said.PlatformVersion = aws.String("Debian GNU/Linux"), aws.String("12")
	said.SSMConnectionChannel = aws.String(channel)
	return said
}

// associate asks what the machine is to be kept like: soon, half a minute later if it is nothing, then every ten minutes.
func (w *worker) associate(ending context.Context) {
	if !pause(ending, time.Duration(rand.Int64N(int64(30*time.Second))), w.pace) {
		return
	}
	for wait := 30 * time.Second; ; wait = 10 * time.Minute {
		input := associationsInput{aws.String(w.machine.id), aws.Int64(20)}
		_ = w.services.call("ssm", "ListInstanceAssociations", w.credentials, nil, &input, &associationsOutput{})
		if !pause(ending, wait, w.pace) {
			return
		}
	}
}
