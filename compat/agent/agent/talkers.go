package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"inborn.test/agent/frame"
)

// talker is what the session's document asks for.
func (c conversation) talker() (talker, error) {
	switch c.DocumentContent.SessionType {
	case "Standard_Stream", "InteractiveCommands", "NonInteractiveCommands":
		return newShell(c.command())
	case "Port":
		host, port := c.property("host"), c.property("portNumber")
		if host == "" {
			host = "localhost"
		}
		return &forwarder{address: net.JoinHostPort(host, port), ready: make(chan struct{}), over: make(chan struct{})}, nil
	default:
		return nil, fmt.Errorf("sessions of type %q are not here", c.DocumentContent.SessionType)
	}
}

// command is what runs instead of a shell.
func (c conversation) command() string {
	var properties struct {
		Linux struct{ Commands any } `json:"linux"`
	}
	if json.Unmarshal(c.DocumentContent.Properties, &properties) != nil {
		return ""
	}
	return c.fill(strings.Join(texts(properties.Linux.Commands), "\n"))
}

func (c conversation) property(name string) string {
	var properties map[string]any
	if json.Unmarshal(c.DocumentContent.Properties, &properties) != nil {
		return ""
	}
	return c.fill(strings.Join(texts(properties[name]), ""))
}

func (c conversation) fill(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		name := placeholder.FindStringSubmatch(found)[1]
		if given, here := c.Parameters[name]; here {
			return strings.Join(texts(given), " ")
		}
		return strings.Join(texts(c.DocumentContent.Parameters[name].Default), " ")
	})
}

// shell is a terminal with a shell, or a command, on it.
type shell struct {
	command *exec.Cmd
	ours    *os.File
}

func newShell(script string) (*shell, error) {
	ours, theirs, err := terminal()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	command := exec.Command("sh")
	if script != "" {
		command = exec.Command("sh", "-c", script)
	}
	command.Env = append(os.Environ(), "TERM=xterm-256color", "PS1=$ ")
	command.Stdin, command.Stdout, command.Stderr = theirs, theirs, theirs
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := command.Start(); err != nil {
		ours.Close()
		return nil, err
	}
	return &shell{command, ours}, nil
}

// terminal makes a pair: what a terminal program holds, and what a shell has.
func terminal() (ours, theirs *os.File, err error) {
	ours, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	var number, unlocked uint32
	for request, argument := range map[uintptr]*uint32{syscall.TIOCGPTN: &number, syscall.TIOCSPTLCK: &unlocked} {
		if err := control32(ours, request, unsafe.Pointer(argument)); err != nil {
			ours.Close()
			return nil, nil, err
		}
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		ours.Close()
	}
	return ours, theirs, err
}

func control32(file *os.File, request uintptr, argument unsafe.Pointer) error {
	if _, _, failed := syscall.Syscall(syscall.SYS_IOCTL, file.Fd(), request, uintptr(argument)); failed != 0 {
		return failed
	}
	return nil
}

func (s *shell) take(payloadType uint32, payload []byte) {
	switch payloadType {
	case frame.Output:
		_, _ = s.ours.Write(payload)
	case frame.Size:
		var size struct{ Cols, Rows uint16 }
		if json.Unmarshal(payload, &size) == nil {
			window := [4]uint16{size.Rows, size.Cols}
			_ = control32(s.ours, syscall.TIOCSWINSZ, unsafe.Pointer(&window))
		}
	}
}

func (s *shell) run(session *dataChannel) error {
	piece := make([]byte, frame.PieceMax)
	for {
		count, err := s.ours.Read(piece)
		if count > 0 {
			session.stream.Write(frame.Output, piece[:count])
		}
		// A terminal whose shell has ended gives an error, not an end.
		if err != nil {
			break
		}
	}
	_ = s.command.Wait()
	s.ours.Close()
	return nil
}

func (s *shell) close() { _ = syscall.Kill(-s.command.Process.Pid, syscall.SIGHUP) }

// forwarder carries the bytes of one connection at a time to a port.
type forwarder struct {
	address    string
	ready      chan struct{}
	over       chan struct{}
	lock       sync.Mutex
	connection net.Conn
	session    *dataChannel
	once       sync.Once
}

func (f *forwarder) run(session *dataChannel) error {
	f.lock.Lock()
	f.session = session
	f.lock.Unlock()
	// As the agent does: the plugin takes its own port from here, and would listen at the name of a parameter.
	properties := session.session.fill(string(session.session.DocumentContent.Properties))
	asked, _ := json.Marshal(map[string]any{"AgentVersion": version, "RequestedClientActions": []any{map[string]any{
		"ActionType": "SessionType", "ActionParameters": map[string]any{
			"SessionType": "Port", "Properties": json.RawMessage(properties),
		},
	}}})
	session.stream.Write(frame.Request, asked)
	select {
	case <-f.over:
		return nil
	case <-f.ready:
	}
	session.stream.Write(frame.Complete, []byte(`{"HandshakeTimeToComplete":1,"CustomerMessage":""}`))
	<-f.over
	return nil
}

func (f *forwarder) take(payloadType uint32, payload []byte) {
	switch payloadType {
	case frame.Response:
		f.once.Do(func() { close(f.ready) })
	case frame.Flag:
		if len(payload) != 4 {
			return
		}
		switch binary.BigEndian.Uint32(payload) {
		case frame.DisconnectToPort:
			f.disconnect()
		case frame.TerminateSession:
			f.close()
		}
	case frame.Output:
		if connection := f.connect(); connection != nil {
			_, _ = connection.Write(payload)
		}
	}
}

func (f *forwarder) connect() net.Conn {
	f.lock.Lock()
	defer f.lock.Unlock()
	if f.connection != nil || f.session == nil {
		return f.connection
	}
	connection, err := net.Dial("tcp", f.address)
	if err != nil {
		tell("no port", facts{"address": f.address, "error": err.Error()})
		return nil
	}
	f.connection = connection
	session := f.session
	go func() {
		piece := make([]byte, frame.PieceMax)
		for {
			count, err := connection.Read(piece)
			if count > 0 {
				session.stream.Write(frame.Output, piece[:count])
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
					tell("port", facts{"error": err.Error()})
				}
				f.disconnect()
				return
			}
		}
	}()
	return connection
}

func (f *forwarder) disconnect() {
	f.lock.Lock()
	defer f.lock.Unlock()
	if f.connection != nil {
		f.connection.Close()
		f.connection = nil
	}
}

func (f *forwarder) close() {
	f.disconnect()
	f.lock.Lock()
	defer f.lock.Unlock()
	select {
	case <-f.over:
	default:
		close(f.over)
	}
}
