package main

import (
	"context"
	"encoding/json"
	"time"

	"inborn.test/agent/frame"
)

// conversation is what a session is to be.
type conversation struct {
	SessionId       string
	DocumentName    string
	DocumentContent struct {
		SessionType string          `json:"sessionType"`
		Inputs      json.RawMessage `json:"inputs"`
		Properties  json.RawMessage `json:"properties"`
		Parameters  map[string]parameter
	}
	Parameters map[string]any
}

// dataChannel is one session's: it comes back when it breaks, and the stream goes on where it was.
type dataChannel struct {
	control *control
	session conversation
	stream  *frame.Stream
	// Ends when the session does.
	going context.Context
	end   context.CancelFunc
	open  chan *channel
}

// What the far end of a session is.
type talker interface {
	// take is given what the client sends.
	take(payloadType uint32, payload []byte)
	// run talks until the session ends.
	run(session *dataChannel) error
	close()
}

// converse holds one session from its beginning to its end.
func (c *control) converse(what job) {
	var session conversation
	if err := json.Unmarshal([]byte(what.Content), &session); err != nil {
		tell("session", facts{"session": what.TaskId, "error": err.Error()})
		return
	}
	session.SessionId = what.TaskId
	going, end := context.WithCancel(context.Background())
	defer end()
	data := &dataChannel{control: c, session: session, going: going, end: end, open: make(chan *channel, 1)}
	data.open <- nil
	talker, err := session.talker()
	if err == nil {
		data.stream = (&frame.Stream{Kind: "output_stream_data", Send: data.send, Take: talker.take}).Start()
		defer data.stream.End()
		tell("session", facts{"session": what.TaskId, "document": session.DocumentName, "type": session.DocumentContent.SessionType})
		connected := make(chan error, 1)
		go data.stay(connected)
		if err = <-connected; err == nil {
			context.AfterFunc(going, talker.close)
			err = talker.run(data)
		}
	}
	status, text := "Success", ""
	if err != nil {
		status, text = "Failed", err.Error()
	}
	data.leave()
	end()
	c.send(frame.New("agent_task_complete", map[string]any{
		"SchemaVersion": 1, "TaskId": what.TaskId, "Topic": what.Topic, "FinalTaskStatus": status,
		"IsRoutingFailure": false, "AwsAccountId": "", "InstanceId": c.worker.machine.id, "Output": text, "S3Bucket": "",
		"S3UrlSuffix": "", "CwlGroup": "", "CwlStream": "", "RetryNumber": 0,
	}))
	tell("session over", facts{"session": what.TaskId, "status": status, "output": text})
}

// stay opens the data channel, again when it breaks, until the session ends.
func (d *dataChannel) stay(connected chan<- error) {
	const triesMax = 5
	for tries := 0; d.going.Err() == nil; {
		channel, err := d.connect()
		if err != nil {
			tries++
			tell("no data channel", facts{"session": d.session.SessionId, "error": err.Error()})
			if tries == triesMax {
				select {
				case connected <- err:
				default:
				}
				d.end()
				return
			}
			pause(d.going, time.Second<<tries, d.control.worker.pace)
			continue
		}
		tries = 0
		select {
		case connected <- nil:
		default:
		}
		d.listen(channel)
	}
}

func (d *dataChannel) connect() (*channel, error) {
	gateway := gateway{d.control.worker.services, d.control.worker.credentials}
	path := "/v1/data-channel/" + d.session.SessionId
	token, err := gateway.create(path, map[string]any{"MessageSchemaVersion": "1.0", "RequestId": frame.NewID(), "ClientId": ""})
	if err != nil {
		return nil, err
	}
	channel, err := gateway.open(path+"?role=publish_subscribe", map[string]any{
		"Cookie": nil, "MessageSchemaVersion": "1.0", "RequestId": frame.NewID(), "TokenValue": token,
		"ClientInstanceId": d.control.worker.machine.id, "ClientId": frame.NewID(),
	})
	if err != nil {
		return nil, err
	}
	<-d.open
	d.open <- channel
	d.state("Connected")
	return channel, nil
}

func (d *dataChannel) listen(channel *channel) {
	listening, stop := context.WithCancel(d.going)
	defer stop()
	context.AfterFunc(listening, channel.close)
	channel.keepAlive(d.control.worker.pace, listening.Done())
	for {
		message, err := channel.receive()
		if err != nil {
			return
		}
		switch message.Type {
		case "input_stream_data":
			d.stream.Received(message)
		case "acknowledge":
			d.stream.Acknowledged(message.Payload)
		case "channel_closed":
			tell("channel closed", facts{"session": d.session.SessionId})
			d.end()
			return
		default:
			tell("frame", facts{"type": message.Type, "session": d.session.SessionId})
		}
	}
}

func (d *dataChannel) send(message frame.Message) {
	open := <-d.open
	d.open <- open
	if open != nil && open.send(message) != nil {
		open.socket.Close()
	}
}

func (d *dataChannel) state(name string) {
	d.send(frame.New("agent_session_state", map[string]any{
		"SchemaVersion": 1, "SessionState": name, "SessionId": d.session.SessionId,
	}))
}

// leave waits a little for what is on the way, and says that it is over.
func (d *dataChannel) leave() {
	if d.stream == nil {
		return
	}
	for tries := 0; d.stream.Unacknowledged() > 0 && tries < 100 && d.going.Err() == nil; tries++ {
		time.Sleep(10 * time.Millisecond)
	}
	d.state("Terminating")
}
