// Package frame reads and writes the binary messages of the message gateway, as both ends of its channels do.
package frame

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// What a header is made of: where each field begins. The payload's length is at the end of the header, and its place is
// what the header says its own length is.
const (
	typeAt          = 4
	typeBytes       = 32
	schemaAt        = 36
	createdAt       = 40
	sequenceAt      = 48
	flagsAt         = 56
	idAt            = 64
	digestAt        = 80
	payloadTypeAt   = 112
	payloadLengthAt = 116
	payloadAt       = 120
)

// Payload types of streams.
const (
	Output   = 1
	Size     = 3
	Request  = 5
	Response = 6
	Complete = 7
	Flag     = 10
)

// The words of a payload of type Flag.
const (
	DisconnectToPort = 1
	TerminateSession = 2
)

// Message is one frame.
type Message struct {
	Type        string
	Created     time.Time
	Sequence    int64
	Flags       uint64
	ID          string
	PayloadType uint32
	Payload     []byte
}

// New is a message with an id and the time of now; what is no text or bytes is sent as JSON.
func New(kind string, payload any) Message {
	message := Message{Type: kind, Created: time.Now(), ID: NewID()}
	switch value := payload.(type) {
	case []byte:
		message.Payload = value
	case string:
		message.Payload = []byte(value)
	default:
		message.Payload, _ = json.Marshal(value)
	}
	return message
}

// NewID is a random UUID.
func NewID() string {
	var bytes [16]byte
	_, _ = rand.Read(bytes[:])
	bytes[6] = bytes[6]&0x0f | 0x40
	bytes[8] = bytes[8]&0x3f | 0x80
	return text(bytes)
}

func text(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// Bytes is the frame on the wire.
func (m Message) Bytes() ([]byte, error) {
	id, err := hex.DecodeString(strings.ReplaceAll(m.ID, "-", ""))
	if err != nil || len(id) != 16 || len(m.Type) > typeBytes {
		return nil, fmt.Errorf("no message: type %q, id %q", m.Type, m.ID)
	}
	wire := make([]byte, payloadAt, payloadAt+len(m.Payload))
	binary.BigEndian.PutUint32(wire, payloadLengthAt)
	copy(wire[typeAt:], m.Type+strings.Repeat(" ", typeBytes-len(m.Type)))
	binary.BigEndian.PutUint32(wire[schemaAt:], 1)
	binary.BigEndian.PutUint64(wire[createdAt:], uint64(m.Created.UnixMilli()))
	binary.BigEndian.PutUint64(wire[sequenceAt:], uint64(m.Sequence))
	binary.BigEndian.PutUint64(wire[flagsAt:], m.Flags)
	// Its two halves are the other way round on the wire.
	copy(wire[idAt:], id[8:])
	copy(wire[idAt+8:], id[:8])
	digest := sha256.Sum256(m.Payload)
	copy(wire[digestAt:], digest[:])
	binary.BigEndian.PutUint32(wire[payloadTypeAt:], m.PayloadType)
	binary.BigEndian.PutUint32(wire[payloadLengthAt:], uint32(len(m.Payload)))
	return append(wire, m.Payload...), nil
}

// Parse reads a frame. Its digest is not looked at, as the real ends of a channel do not.
func Parse(wire []byte) (Message, error) {
	if len(wire) < payloadAt || binary.BigEndian.Uint32(wire) != payloadLengthAt {
		return Message{}, errors.New("a frame is too short, or has another header")
	}
	if int64(binary.BigEndian.Uint32(wire[payloadLengthAt:])) != int64(len(wire)-payloadAt) {
		return Message{}, errors.New("a frame and its length disagree")
	}
	var id [16]byte
	copy(id[8:], wire[idAt:])
	copy(id[:8], wire[idAt+8:])
	return Message{
		Type:        strings.TrimRight(string(bytes.TrimRight(wire[typeAt:typeAt+typeBytes], "\x00")), " "),
		Created:     time.UnixMilli(int64(binary.BigEndian.Uint64(wire[createdAt:]))),
		Sequence:    int64(binary.BigEndian.Uint64(wire[sequenceAt:])),
		Flags:       binary.BigEndian.Uint64(wire[flagsAt:]),
		ID:          text(id),
		PayloadType: binary.BigEndian.Uint32(wire[payloadTypeAt:]),
		Payload:     wire[payloadAt:],
	}, nil
}
