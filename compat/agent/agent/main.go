// A double of amazon-ssm-agent: what the agent of a machine does on the wire, with the agent's own SDK, so that its headers,
// its retries and the stale second signatures of those are the SDK's. It runs commands and shells for real.
//
//	agent --state DIR [--endpoint URL] [--pace N] [--reply final-first]
//
// It prints one line of JSON for each thing that happens. It waits as long as the agent does, divided by the pace, and says
// in its lines how long the agent would have waited.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const version = "3.3.0.0"

type settings struct {
	state      string
	endpoint   string
	pace       float64
	finalFirst bool
	computer   string
}

func main() {
	var chosen settings
	flag.StringVar(&chosen.state, "state", "", "the directory of keys and credentials")
	flag.StringVar(&chosen.endpoint, "endpoint", "", "one endpoint for all services, instead of their names")
	flag.Float64Var(&chosen.pace, "pace", 1, "how many times faster than the agent to wait")
	flag.BoolVar(&chosen.finalFirst, "final-first", false, "send the last reply of a command before the first")
	flag.StringVar(&chosen.computer, "computer", "double", "the name of the computer")
	flag.Parse()
	if chosen.state == "" {
		flag.Usage()
		os.Exit(2)
	}
	ending, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ending, chosen); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

// run is the core: who am I, then credentials for as long as it lives, and a worker once there are some.
func run(ending context.Context, chosen settings) error {
	if err := os.MkdirAll(chosen.state, 0o700); err != nil {
		return err
	}
	machine, err := findMachine(chosen.pace)
	if err != nil {
		return err
	}
	tell("started", facts{"instance": machine.id, "region": machine.region})
	services := &services{region: machine.region, endpoint: chosen.endpoint, pace: chosen.pace}
	vault := vault{directory: chosen.state}
	core := &core{machine: machine, services: services, vault: vault, pace: chosen.pace}
	ready := make(chan struct{})
	go core.keepCredentials(ending, ready)
	select {
	case <-ending.Done():
		return nil
	case <-ready:
	}
	worker := &worker{settings: chosen, machine: machine, services: services, credentials: vault.shared(chosen.pace)}
	worker.run(ending)
	return nil
}

type facts map[string]any

var telling sync.Mutex

// tell prints what happened.
func tell(event string, more facts) {
	line := facts{"event": event, "at": float64(time.Now().UnixMicro()) / 1e6}
	for name, fact := range more {
		line[name] = fact
	}
	text, err := json.Marshal(line)
	if err != nil {
		text, _ = json.Marshal(facts{"event": event, "error": err.Error()})
	}
	telling.Lock()
	defer telling.Unlock()
	fmt.Println(string(text))
}

// pause waits as long as the agent would, at this pace; false if it is time to end.
func pause(ending context.Context, agents time.Duration, pace float64) bool {
	timer := time.NewTimer(time.Duration(float64(agents) / pace))
	defer timer.Stop()
	select {
	case <-ending.Done():
		return false
	case <-timer.C:
		return true
	}
}
