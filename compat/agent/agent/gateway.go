package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go/aws/credentials"
	"github.com/aws/aws-sdk-go/aws/signer/v4"
	"github.com/gorilla/websocket"

	"inborn.test/agent/frame"
)

// errDenied is the one refusal that sends an agent back to the older way of messages.
const errDenied = plainError("AccessDeniedException")

// gateway makes channels of the message gateway.
type gateway struct {
	services    *services
	credentials *credentials.Credentials
}

// channel is one websocket.
type channel struct {
	socket *websocket.Conn
	lock   sync.Mutex
}

// create asks for the token of a channel.
func (g gateway) create(path string, body map[string]any) (string, error) {
	where, err := g.services.gateway("https", path)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	asked, err := http.NewRequest(http.MethodPost, where, bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	asked.Header.Set("Content-Type", "application/json")
	signer := v4.NewSigner(g.credentials)
	if _, err := signer.Sign(asked, bytes.NewReader(text), "ssmmessages", g.services.region, time.Now()); err != nil {
		return "", err
	}
	answer, err := (&http.Client{Timeout: 15 * time.Second}).Do(asked)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
	if err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusCreated {
		if strings.Contains(string(said), "<AccessDeniedException>") {
			return "", errDenied
		}
		return "", fmt.Errorf("%d: %s", answer.StatusCode, said)
	}
	var made struct{ TokenValue string }
	if err := xml.Unmarshal(said, &made); err != nil {
		return "", err
	}
	return made.TokenValue, nil
}

// open makes the websocket and shows the token in its first words.
func (g gateway) open(path string, first map[string]any) (*channel, error) {
	where, err := g.services.gateway("wss", path)
	if err != nil {
		return nil, err
	}
	asked, err := http.NewRequest(http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	signer := v4.NewSigner(g.credentials)
	if _, err := signer.Sign(asked, nil, "ssmmessages", g.services.region, time.Now()); err != nil {
		return nil, err
	}
	dialer := websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: 45 * time.Second}
	socket, answer, err := dialer.Dial(where, asked.Header)
	if err != nil {
		if answer != nil {
			return nil, fmt.Errorf("%d: %w", answer.StatusCode, err)
		}
		return nil, err
	}
	if err := socket.WriteJSON(first); err != nil {
		socket.Close()
		return nil, err
	}
	return &channel{socket: socket}, nil
}

// keepAlive pings for as long as the channel is there, and takes silence for its end.
func (c *channel) keepAlive(pace float64, ended <-chan struct{}) {
	every := max(time.Duration(54*float64(time.Second)/pace), 200*time.Millisecond)
	patience := every + 6*time.Second
	heard := func() { _ = c.socket.SetReadDeadline(time.Now().Add(patience)) }
	heard()
	c.socket.SetPongHandler(func(string) error { heard(); return nil })
	go func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(every):
			}
			if c.socket.WriteControl(websocket.PingMessage, []byte("keepalive"), time.Now().Add(patience)) != nil {
				return
			}
		}
	}()
}

func (c *channel) send(message frame.Message) error {
	wire, err := message.Bytes()
	if err != nil {
		return err
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.socket.WriteMessage(websocket.BinaryMessage, wire)
}

// receive gives the next binary message.
func (c *channel) receive() (frame.Message, error) {
	for {
		kind, wire, err := c.socket.ReadMessage()
		if err != nil {
			return frame.Message{}, err
		}
		if kind == websocket.BinaryMessage {
			return frame.Parse(wire)
		}
	}
}

func (c *channel) close() {
	closing := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = c.socket.WriteControl(websocket.CloseMessage, closing, time.Now().Add(time.Second))
	c.socket.Close()
}
