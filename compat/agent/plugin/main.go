// A double of session-manager-plugin: the client's end of a session.
//
//	plugin ANSWER [--forward PORT]
//
// ANSWER is what StartSession answered, as JSON. Standard input is sent, standard output is what came; a line
// `\size COLS ROWS` on standard input changes the size of the terminal instead. With `--forward` it listens at that port
// of this computer and carries one connection at a time, as the plugin does for agents of before multiplexing.
// Lines of JSON on standard error say what happened.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"inborn.test/agent/frame"
)

const clientVersion = "1.2.0.0"

type answer struct{ SessionId, StreamUrl, TokenValue string }

type client struct {
	socket *websocket.Conn
	lock   sync.Mutex
	stream *frame.Stream
	shaken chan struct{}
	port   net.Conn
	ports  sync.Mutex
}

func main() {
	forward := flag.Int("forward", -1, "the port of this computer to listen at; 0 for any free one")
	flag.Parse()
	var session answer
	if err := json.Unmarshal([]byte(flag.Arg(0)), &session); err != nil {
		fail(err)
	}
	if err := talk(session, *forward); err != nil {
		fail(err)
	}
}

func fail(err error) {
	tell("failed", map[string]any{"error": err.Error()})
	os.Exit(1)
}

func tell(event string, more map[string]any) {
	line := map[string]any{"event": event}
	for name, fact := range more {
		line[name] = fact
	}
	text, _ := json.Marshal(line)
	fmt.Fprintln(os.Stderr, string(text))
}

func talk(session answer, forward int) error {
	// Nothing is signed: the token is all there is.
	socket, response, err := websocket.DefaultDialer.Dial(session.StreamUrl, nil)
	if err != nil {
		if response != nil {
			return fmt.Errorf("%d: %w", response.StatusCode, err)
		}
		return err
	}
	defer socket.Close()
	if err := socket.WriteJSON(map[string]any{
		"MessageSchemaVersion": "1.0", "RequestId": frame.NewID(), "TokenValue": session.TokenValue,
		"ClientId": frame.NewID(), "ClientVersion": clientVersion,
	}); err != nil {
		return err
	}
	here := &client{socket: socket, shaken: make(chan struct{})}
	here.stream = (&frame.Stream{Kind: "input_stream_data", Send: here.send, Take: here.take}).Start()
	defer here.stream.End()
	tell("open", map[string]any{"session": session.SessionId})
	if forward >= 0 {
		go here.forward(forward)
	} else {
		go here.typeIn()
	}
	for {
		kind, wire, err := socket.ReadMessage()
		if err != nil {
			return err
		}
		if kind != websocket.BinaryMessage {
			continue
		}
		message, err := frame.Parse(wire)
		if err != nil {
			return err
		}
		switch message.Type {
		case "output_stream_data":
			here.stream.Received(message)
		case "acknowledge":
			here.stream.Acknowledged(message.Payload)
		case "channel_closed":
			var closed struct{ SessionId, Output string }
			if err := json.Unmarshal(message.Payload, &closed); err != nil {
				return err
			}
			tell("closed", map[string]any{"session": closed.SessionId, "output": closed.Output})
			return nil
		default:
			tell("frame", map[string]any{"type": message.Type})
		}
	}
}

func (c *client) send(message frame.Message) {
	wire, err := message.Bytes()
	if err != nil {
		fail(err)
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	_ = c.socket.WriteMessage(websocket.BinaryMessage, wire)
}

// typeIn sends standard input, a line or what there is of one at a time.
func (c *client) typeIn() {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadString('\n')
		var columns, rows int
		if count, _ := fmt.Sscanf(line, "\\size %d %d", &columns, &rows); count == 2 {
			size, _ := json.Marshal(map[string]int{"cols": columns, "rows": rows})
			c.stream.Write(frame.Size, size)
		} else {
			for piece := []byte(line); len(piece) > 0; {
				count := min(len(piece), frame.PieceMax)
				c.stream.Write(frame.Output, piece[:count])
				piece = piece[count:]
			}
		}
		if err != nil {
			return
		}
	}
}

func (c *client) take(payloadType uint32, payload []byte) {
	switch payloadType {
	case frame.Output:
		if port := c.connected(); port != nil {
			_, _ = port.Write(payload)
			return
		}
		_, _ = os.Stdout.Write(payload)
	case frame.Request:
		c.shake(payload)
	case frame.Complete:
		close(c.shaken)
	}
}

// shake says yes to what the agent asks the client to do.
func (c *client) shake(payload []byte) {
	var asked struct {
		RequestedClientActions []struct{ ActionType string }
	}
	if err := json.Unmarshal(payload, &asked); err != nil {
		fail(err)
	}
	done, kinds := []map[string]any{}, []string{}
	for _, action := range asked.RequestedClientActions {
		done = append(done, map[string]any{"ActionType": action.ActionType, "ActionStatus": 1, "ActionResult": nil, "Error": ""})
		kinds = append(kinds, action.ActionType)
	}
	response, _ := json.Marshal(map[string]any{"ClientVersion": clientVersion, "ProcessedClientActions": done, "Errors": nil})
	tell("handshake", map[string]any{"actions": strings.Join(kinds, ",")})
	c.stream.Write(frame.Response, response)
}

// forward carries connections one after another, until standard input ends.
func (c *client) forward(port int) {
	<-c.shaken
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		fail(err)
	}
	tell("listening", map[string]any{"port": listener.Addr().(*net.TCPAddr).Port})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		c.flag(frame.TerminateSession)
	}()
	for {
		connection, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		c.ports.Lock()
		c.port = connection
		c.ports.Unlock()
		piece := make([]byte, frame.PieceMax)
		for {
			count, err := connection.Read(piece)
			if count > 0 {
				c.stream.Write(frame.Output, piece[:count])
			}
			if err != nil {
				break
			}
		}
		// What is on its way to the connection that has ended must not reach the next.
		c.flag(frame.DisconnectToPort)
		time.Sleep(100 * time.Millisecond)
		c.ports.Lock()
		c.port = nil
		c.ports.Unlock()
		connection.Close()
	}
}

func (c *client) connected() net.Conn {
	c.ports.Lock()
	defer c.ports.Unlock()
	return c.port
}

func (c *client) flag(value uint32) {
	var payload [4]byte
	binary.BigEndian.PutUint32(payload[:], value)
	c.stream.Write(frame.Flag, payload[:])
}
