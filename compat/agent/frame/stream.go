package frame

import (
	"encoding/json"
	"sync"
	"time"
)

const (
	// PieceMax is the most bytes of a stream in one message, as the agent cuts them.
	PieceMax = 1024
	// window is how many pieces may be on the way: who writes more waits.
	window = 1000
	// resendAfter is when a piece that nobody acknowledged is sent again.
	resendAfter = time.Second
	// aheadMax is how many pieces are kept that came before their turn.
	aheadMax = 1000
)

// Stream is one end of a session's data channel: numbered pieces, each acknowledged by the other end, put into their order.
type Stream struct {
	// Kind is the message type that this end sends.
	Kind string
	// Send hands a frame to the connection there is; one that is lost is sent again.
	Send func(Message)
	// Take is given the pieces of the other end in their order.
	Take func(payloadType uint32, payload []byte)

	lock     sync.Mutex
	room     sync.Cond
	next     int64
	expected int64
	sent     map[int64]*piece
	ahead    map[int64]Message
	ended    bool
}

type piece struct {
	message Message
	at      time.Time
}

// Acknowledgement says which piece has come.
type Acknowledgement struct {
	AcknowledgedMessageType           string
	AcknowledgedMessageId             string
	AcknowledgedMessageSequenceNumber int64
	IsSequentialMessage               bool
}

// Start makes it ready; it sends again what is not acknowledged until it is ended.
func (s *Stream) Start() *Stream {
	s.room.L = &s.lock
	s.sent, s.ahead = map[int64]*piece{}, map[int64]Message{}
	go s.resend()
	return s
}

// End lets go of whoever waits.
func (s *Stream) End() {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.ended = true
	s.room.Broadcast()
}

// Write sends a piece; it waits while too many are on the way.
func (s *Stream) Write(payloadType uint32, payload []byte) {
	s.lock.Lock()
	for len(s.sent) >= window && !s.ended {
		s.room.Wait()
	}
	message := New(s.Kind, append([]byte(nil), payload...))
	message.Sequence, message.PayloadType = s.next, payloadType
	if s.next == 0 {
		message.Flags = 1
	}
	s.next++
	s.sent[message.Sequence] = &piece{message, time.Now()}
	s.lock.Unlock()
	s.Send(message)
}

// Unacknowledged is how many pieces are on the way.
func (s *Stream) Unacknowledged() int {
	s.lock.Lock()
	defer s.lock.Unlock()
	return len(s.sent)
}

// Acknowledged notes that a piece has come.
func (s *Stream) Acknowledged(payload []byte) {
	var told Acknowledgement
	if json.Unmarshal(payload, &told) != nil {
		return
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	delete(s.sent, told.AcknowledgedMessageSequenceNumber)
	s.room.Broadcast()
}

// Received acknowledges a piece of the other end and takes it in its turn: one that came before is known already.
func (s *Stream) Received(message Message) {
	acknowledgement := New("acknowledge", Acknowledgement{message.Type, message.ID, message.Sequence, true})
	acknowledgement.Flags = 3
	s.Send(acknowledgement)
	s.lock.Lock()
	if message.Sequence >= s.expected && len(s.ahead) < aheadMax {
		s.ahead[message.Sequence] = message
	}
	var due []Message
	for {
		message, here := s.ahead[s.expected]
		if !here {
			break
		}
		delete(s.ahead, s.expected)
		s.expected++
		due = append(due, message)
	}
	s.lock.Unlock()
	for _, message := range due {
		s.Take(message.PayloadType, message.Payload)
	}
}

func (s *Stream) resend() {
	for {
		time.Sleep(resendAfter / 4)
		s.lock.Lock()
		if s.ended {
			s.lock.Unlock()
			return
		}
		var due []Message
		for number := s.next - int64(window); number < s.next; number++ {
			if one := s.sent[number]; one != nil && time.Since(one.at) >= resendAfter {
				one.at = time.Now()
				due = append(due, one.message)
			}
		}
		s.lock.Unlock()
		for _, message := range due {
			s.Send(message)
		}
	}
}
