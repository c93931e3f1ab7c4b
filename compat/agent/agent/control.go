package main

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"inborn.test/agent/frame"
)

// control is the channel on which the agent is told what to do.
type control struct {
	worker *worker
	jobs   *jobs
	// Called when the channel has been opened, and when it is denied.
	onOpen, onDenied func()
	lock             sync.Mutex
	open             *channel
	// Replies that the other side has not acknowledged.
	replies map[string]reply
}

type reply struct {
	message frame.Message
	since   time.Time
}

type job struct {
	SchemaVersion                 int
	JobId, TaskId, Topic, Content string
}

// run keeps the channel open: at once when it breaks, then ever more seldom.
func (c *control) run(ending context.Context) {
	c.replies = map[string]reply{}
	go c.resend(ending)
	const waitMax = 40 * time.Minute
	wait := time.Duration(0)
	for pause(ending, wait, c.worker.pace) {
		opened, err := c.once(ending)
		if ending.Err() != nil {
			return
		}
		switch {
		case opened:
			wait = 0
		case wait == 0:
			wait = 5*time.Second + time.Duration(rand.Int64N(int64(5*time.Second)))
		default:
			wait = min(2*wait, waitMax)
		}
		if errors.Is(err, errDenied) {
			c.worker.channel.Store("ec2messages")
			c.onDenied()
		}
		tell("no channel", facts{"error": err.Error(), "opened": opened, "wait": wait.Seconds()})
	}
}

// once opens the channel and listens until it breaks.
func (c *control) once(ending context.Context) (opened bool, err error) {
	gateway := gateway{c.worker.services, c.worker.credentials}
	path := "/v1/control-channel/" + c.worker.machine.id
	token, err := gateway.create(path, map[string]any{"MessageSchemaVersion": "1.0", "RequestId": frame.NewID()})
	if err != nil {
		return false, err
	}
	made, err := gateway.open(path+"?role=subscribe&stream=input", map[string]any{
		"Cookie": nil, "MessageSchemaVersion": "1.0", "RequestId": frame.NewID(), "TokenValue": token,
		"AgentVersion": version, "PlatformType": "linux",
	})
	if err != nil {
		return false, err
	}
	defer made.close()
	listening, stop := context.WithCancel(ending)
	defer stop()
	context.AfterFunc(listening, made.close)
	made.keepAlive(c.worker.pace, listening.Done())
	c.use(made)
	defer c.use(nil)
	c.worker.channel.Store("ssmmessages")
	tell("channel", facts{"instance": c.worker.machine.id})
	c.onOpen()
	for {
		message, err := made.receive()
		if err != nil {
			return true, err
		}
		c.receive(message)
	}
}

func (c *control) receive(message frame.Message) {
	switch message.Type {
	case "agent_job":
		c.take(message)
	case "agent_job_reply_ack":
		var told struct{ AcknowledgedMessageId string }
		if json.Unmarshal(message.Payload, &told) == nil {
			c.lock.Lock()
			_, waited := c.replies[told.AcknowledgedMessageId]
			delete(c.replies, told.AcknowledgedMessageId)
			c.lock.Unlock()
			tell("reply acknowledged", facts{"known": waited})
		}
	case "interactive_shell":
		var what job
		if err := json.Unmarshal(message.Payload, &what); err != nil {
			tell("session", facts{"error": err.Error()})
			return
		}
		go c.converse(what)
	default:
		tell("frame", facts{"type": message.Type})
	}
}

// take acknowledges a job and begins it.
func (c *control) take(message frame.Message) {
	var what job
	var content jobContent
	err := json.Unmarshal(message.Payload, &what)
	if err == nil {
		err = json.Unmarshal([]byte(what.Content), &content)
	}
	status, text := "200", "Successful"
	if err != nil {
		status, text = "51401", err.Error()
	}
	c.send(frame.New("agent_job_ack", map[string]any{
		"jobId": what.JobId, "acknowledgedMessageId": message.ID, "createdDate": now(), "statusCode": status,
		"errorMessage": text,
	}))
	if err != nil {
		tell("job", facts{"job": what.JobId, "by": "ssmmessages", "error": err.Error()})
		return
	}
	c.jobs.take(what.JobId, what.Topic, content, func(said string) {
		message := frame.New("agent_job_reply", map[string]any{
			"schemaVersion": 1, "jobId": what.JobId, "content": said, "topic": what.Topic,
		})
		c.lock.Lock()
		c.replies[message.ID] = reply{message, time.Now()}
		c.lock.Unlock()
		c.send(message)
	}, "ssmmessages")
}

// resend sends replies again that nobody acknowledged. Of one that was sent a moment ago the word may be on its way.
func (c *control) resend(ending context.Context) {
	const every = 5 * time.Minute
	for pause(ending, every, c.worker.pace) {
		sentBefore := time.Now().Add(-time.Duration(float64(every) / c.worker.pace))
		c.lock.Lock()
		waiting := make([]frame.Message, 0, len(c.replies))
		for _, one := range c.replies {
			if one.since.Before(sentBefore) {
				waiting = append(waiting, one.message)
			}
		}
		c.lock.Unlock()
		for _, message := range waiting {
			tell("reply again", facts{"message": message.ID})
			c.send(message)
		}
	}
}

func (c *control) use(channel *channel) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.open = channel
}

// send sends if the channel is open. What must not be lost is sent again by who wants it so.
func (c *control) send(message frame.Message) {
	c.lock.Lock()
	open := c.open
	c.lock.Unlock()
	if open == nil {
		return
	}
	if err := open.send(message); err != nil {
		open.socket.Close()
	}
}
