package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go/aws"

	"inborn.test/agent/frame"
)

type getMessagesInput struct {
	Destination                *string
	MessagesRequestId          *string
	VisibilityTimeoutInSeconds *int64
}

type getMessagesOutput struct {
	Destination       *string
	MessagesRequestId *string
	Messages          []*message
}

type message struct {
	CreatedDate   *string
	Destination   *string
	MessageId     *string
	Payload       *string
	PayloadDigest *string
	Topic         *string
}

type messageInput struct{ MessageId *string }

type failInput struct {
	MessageId   *string
	FailureType *string
}

type replyInput struct {
	MessageId *string
	Payload   *string
	ReplyId   *string
}

// polls are the older way of messages: asking for them, again and again.
type polls struct {
	worker *worker
	jobs   *jobs
	lock   sync.Mutex
	stop   context.CancelFunc
}

// start polls, if that is not being done.
func (p *polls) start(ending context.Context) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.stop == nil {
		going, stop := context.WithCancel(ending)
		p.stop = stop
		go p.worker.poll(going, p.jobs)
	}
}

// stopLater gives them up a minute after the newer way has begun to work, if it still does.
func (p *polls) stopLater() {
	time.AfterFunc(time.Duration(float64(time.Minute)/p.worker.pace), func() {
		p.lock.Lock()
		defer p.lock.Unlock()
		if p.stop != nil && p.worker.channel.Load() == "ssmmessages" {
			p.stop()
			p.stop = nil
		}
	})
}

func (w *worker) poll(ending context.Context, jobs *jobs) {
	const afterNothing = 2 * time.Second
	for failures := 0; ending.Err() == nil; {
		input := getMessagesInput{aws.String(w.machine.id), aws.String(frame.NewID()), aws.Int64(10)}
		output := getMessagesOutput{}
		started := time.Now()
		err := w.services.callWithin(ending, "ec2messages", "GetMessages", w.credentials, nil, &input, &output)
		if err != nil && time.Since(started) < 10*time.Second {
			failures++
		} else {
			failures = 0
		}
		if failures == 10 {
			failures = 0
			tell("polls pause", facts{"code": codeOf(err)})
			pause(ending, 15*time.Minute, w.pace)
		}
		for _, one := range output.Messages {
			w.receive(jobs, one)
		}
		if len(output.Messages) == 0 {
			pause(ending, afterNothing+time.Duration(rand.Int64N(5e8)), w.pace)
		}
	}
	tell("polls end", nil)
}

// receive takes one message, says that it has it, and does it.
func (w *worker) receive(jobs *jobs, one *message) {
	id := aws.StringValue(one.MessageId)
	var content jobContent
	if err := json.Unmarshal([]byte(aws.StringValue(one.Payload)), &content); err != nil {
		tell("job", facts{"job": id, "by": "ec2messages", "error": err.Error()})
		input := failInput{aws.String(id), aws.String("InternalHandlerException")}
		_ = w.services.call("ec2messages", "FailMessage", w.credentials, nil, &input, &nothing{})
		return
	}
	acknowledge := messageInput{aws.String(id)}
	if err := w.services.call("ec2messages", "AcknowledgeMessage", w.credentials, nil, &acknowledge, &nothing{}); err != nil {
		return
	}
	jobs.take(id, aws.StringValue(one.Topic), content, func(reply string) {
		input := replyInput{aws.String(id), aws.String(reply), aws.String(frame.NewID())}
		_ = w.services.call("ec2messages", "SendReply", w.credentials, nil, &input, &nothing{})
	}, "ec2messages")
}
