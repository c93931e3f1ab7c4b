package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	outputMax = 24000
	errorMax  = 8000
	shownMax  = 2500
	timeForm  = "2006-01-02T15:04:05.000Z"
)

// jobContent is what a job says: a command, or which one to cancel.
type jobContent struct {
	CommandId       string
	CancelMessageId string
	DocumentName    string
	DocumentContent document
	Parameters      map[string]any
}

// jobs runs commands. Each runs once, however often it comes, also over a restart.
type jobs struct {
	worker  *worker
	lock    sync.Mutex
	running map[string]context.CancelFunc
}

// outcome is what became of a step, as replies tell it.
type outcome struct {
	Status             string `json:"status"`
	Code               int    `json:"code"`
	Name               string `json:"name"`
	Output             string `json:"output"`
	StartDateTime      string `json:"startDateTime"`
	EndDateTime        string `json:"endDateTime"`
	OutputS3BucketName string `json:"outputS3BucketName"`
	OutputS3KeyPrefix  string `json:"outputS3KeyPrefix"`
	StepName           string `json:"stepName"`
	StandardOutput     string `json:"standardOutput"`
	StandardError      string `json:"standardError"`
}

func newJobs(worker *worker) *jobs {
	return &jobs{worker: worker, running: map[string]context.CancelFunc{}}
}

// take begins a job, and replies when it is begun and when it is over.
func (j *jobs) take(id, topic string, content jobContent, reply func(string), by string) {
	if strings.HasPrefix(topic, "aws.ssm.cancelCommand") {
		tell("cancel", facts{"job": content.CancelMessageId, "by": by})
		j.lock.Lock()
		cancel := j.running[content.CancelMessageId]
		j.lock.Unlock()
		if cancel != nil {
			cancel()
		}
		return
	}
	if !j.first(id) {
		tell("job", facts{"job": id, "by": by, "again": true})
		return
	}
	tell("job", facts{"job": id, "by": by, "document": content.DocumentName})
	going, cancel := context.WithCancel(context.Background())
	j.lock.Lock()
	j.running[id] = cancel
	j.lock.Unlock()
	go func() {
		j.run(going, id, content, reply)
		cancel()
		j.lock.Lock()
		delete(j.running, id)
		j.lock.Unlock()
	}()
}

// first notes on disk that a job was begun; false if it was before.
func (j *jobs) first(id string) bool {
	directory := filepath.Join(j.worker.state, "jobs")
	if os.MkdirAll(directory, 0o700) != nil {
		return false
	}
	file, err := os.OpenFile(filepath.Join(directory, filepath.Base(id)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return false
	}
	return file.Close() == nil
}

func (j *jobs) run(going context.Context, id string, content jobContent, reply func(string)) {
	steps, err := content.DocumentContent.steps(content.Parameters)
	if err != nil {
		failed := outcome{Status: "Failed", Code: 1, Name: "document", Output: err.Error(), StandardError: err.Error()}
		reply(report("Failed", map[string]outcome{"document": failed}))
		tell("done", facts{"job": id, "status": "Failed", "error": err.Error()})
		return
	}
	outcomes := map[string]outcome{}
	for _, one := range steps {
		outcomes[one.name] = outcome{Status: "InProgress", Name: one.action, StepName: one.name, StartDateTime: now()}
	}
	begun := report("InProgress", outcomes)
	if !j.worker.finalFirst {
		reply(begun)
	}
	status := "Success"
	for _, one := range steps {
		done := j.step(going, one)
		outcomes[one.name] = done
		if done.Status != "Success" && status == "Success" && !one.skipped {
			status = done.Status
		}
	}
	reply(report(status, outcomes))
	if j.worker.finalFirst {
		reply(begun)
	}
	tell("done", facts{"job": id, "status": status})
}

func (j *jobs) step(going context.Context, one step) outcome {
	done := outcome{Name: one.action, StepName: one.name, StartDateTime: now()}
	if one.skipped || one.action != "aws:runShellScript" {
		done.Status, done.EndDateTime = "Skipped", now()
		return done
	}
	limited, stop := context.WithTimeout(going, time.Duration(one.seconds)*time.Second)
	defer stop()
	command := exec.CommandContext(limited, "sh", "-c", one.script)
	command.Dir = one.directory
	command.Env = append(os.Environ(),
		"AWS_SHARED_CREDENTIALS_FILE="+vault{j.worker.state}.credentialsFile(),
		"AWS_SSM_INSTANCE_ID="+j.worker.machine.id, "AWS_SSM_REGION_NAME="+j.worker.machine.region)
	// What it has started ends with it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	var output, complaints bytes.Buffer
	command.Stdout, command.Stderr = &output, &complaints
	err := command.Run()
	done.EndDateTime = now()
	done.StandardOutput, done.StandardError = cut(output.String(), outputMax), cut(complaints.String(), errorMax)
	done.Output = done.StandardOutput
	if done.StandardError != "" {
		done.Output += "\n----------ERROR-------\n" + done.StandardError
	}
	done.Output = cut(done.Output, shownMax)
	var exit *exec.ExitError
	switch {
	case going.Err() != nil:
		done.Status, done.Code = "Cancelled", -1
	case limited.Err() != nil:
		done.Status, done.Code = "TimedOut", -1
	case err == nil:
		done.Status = "Success"
	case errors.As(err, &exit):
		done.Status, done.Code = "Failed", exit.ExitCode()
	default:
		done.Status, done.Code, done.StandardError = "Failed", 1, err.Error()
	}
	return done
}

// report is the content of a reply.
func report(status string, outcomes map[string]outcome) string {
	counts := map[string]int{}
	for _, one := range outcomes {
		counts[one.Status]++
	}
	text, _ := json.Marshal(map[string]any{
		"additionalInfo": map[string]any{
			"agent":    map[string]string{"lang": "en-US", "name": "amazon-ssm-agent", "os": "", "osver": "1", "ver": version},
			"dateTime": now(), "runId": "", "runtimeStatusCounts": counts,
		},
		"documentStatus": status, "documentTraceOutput": "", "runtimeStatus": outcomes,
	})
	return string(text)
}

func now() string { return time.Now().UTC().Format(timeForm) }

func cut(text string, most int) string {
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "")
	}
	return text
}
