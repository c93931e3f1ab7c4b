package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// document is what a command runs, in one of its two forms.
type document struct {
	SchemaVersion string                     `json:"schemaVersion"`
	Parameters    map[string]parameter       `json:"parameters"`
	RuntimeConfig map[string]json.RawMessage `json:"runtimeConfig"`
	MainSteps     []mainStep                 `json:"mainSteps"`
}

type parameter struct {
	Default any `json:"default"`
}

type mainStep struct {
	Action       string                     `json:"action"`
	Name         string                     `json:"name"`
	Precondition map[string][]string        `json:"precondition"`
	Inputs       map[string]json.RawMessage `json:"inputs"`
}

// step is one thing to run.
type step struct {
	name, action, script, directory string
	seconds                         int
	skipped                         bool
}

const secondsDefault = 3600

var placeholder = regexp.MustCompile(`\{\{\s*([A-Za-z0-9_]+)\s*\}\}`)

// steps are what there is to run, with the parameters in their places.
func (d document) steps(given map[string]any) ([]step, error) {
	values := map[string]any{}
	for name, declared := range d.Parameters {
		values[name] = declared.Default
	}
	for name, value := range given {
		values[name] = value
	}
	var steps []step
	for action, config := range d.RuntimeConfig {
		var properties struct{ Properties json.RawMessage }
		if err := json.Unmarshal(config, &properties); err != nil {
			return nil, err
		}
		var list []map[string]json.RawMessage
		if json.Unmarshal(properties.Properties, &list) != nil {
			list = make([]map[string]json.RawMessage, 1)
			if err := json.Unmarshal(properties.Properties, &list[0]); err != nil {
				return nil, err
			}
		}
		for _, inputs := range list {
			found, err := read(action, action, inputs, values)
			if err != nil {
				return nil, err
			}
			steps = append(steps, found)
		}
	}
	for _, one := range d.MainSteps {
		found, err := read(one.Name, one.Action, one.Inputs, values)
		if err != nil {
			return nil, err
		}
		// Of conditions there is one: that of the platform.
		if equal := one.Precondition["StringEquals"]; len(equal) == 2 {
			found.skipped = equal[1] != "Linux" && equal[0] != "Linux"
		}
		steps = append(steps, found)
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("a document of schema %q has no steps", d.SchemaVersion)
	}
	return steps, nil
}

func read(name, action string, inputs map[string]json.RawMessage, values map[string]any) (step, error) {
	found := step{name: name, action: action, seconds: secondsDefault}
	lines, err := input(inputs, "runCommand", values)
	if err != nil {
		return step{}, err
	}
	found.script = strings.Join(lines, "\n")
	directory, err := input(inputs, "workingDirectory", values)
	if err != nil {
		return step{}, err
	}
	found.directory = strings.Join(directory, "")
	seconds, err := input(inputs, "timeoutSeconds", values)
	if err != nil {
		return step{}, err
	}
	if number, err := strconv.Atoi(strings.Join(seconds, "")); err == nil && number > 0 {
		found.seconds = number
	}
	return found, nil
}

// input is one input of a step, as lines.
func input(inputs map[string]json.RawMessage, name string, values map[string]any) ([]string, error) {
	raw, here := inputs[name]
	if !here {
		return nil, nil
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return nil, err
	}
	var lines []string
	for _, line := range texts(value) {
		// Nothing but a parameter is that parameter, lists included.
		if whole := placeholder.FindString(line); whole != "" && whole == strings.TrimSpace(line) {
			lines = append(lines, texts(values[placeholder.FindStringSubmatch(line)[1]])...)
			continue
		}
		lines = append(lines, placeholder.ReplaceAllStringFunc(line, func(found string) string {
			return strings.Join(texts(values[placeholder.FindStringSubmatch(found)[1]]), " ")
		}))
	}
	return lines, nil
}

func texts(value any) []string {
	switch value := value.(type) {
	case nil:
		return nil
	case string:
		return []string{value}
	case []any:
		var all []string
		for _, one := range value {
			all = append(all, texts(one)...)
		}
		return all
	default:
		return []string{fmt.Sprint(value)}
	}
}
