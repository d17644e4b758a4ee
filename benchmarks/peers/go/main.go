// The peers' cases by os/exec: main EXIT FEED (../README.md says what it is asked, and how it answers).
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	atOnce           = 100
	linesOfAPipeline = 300
	sizeOfALine      = 32
)

var (
	exit, feed string
	held       []*exec.Cmd
	outputs    []io.ReadCloser
	ballast    [][]byte
)

func need(err error) {
	if err != nil {
		panic(err)
	}
}

func require(right bool, what string) {
	if !right {
		panic(what)
	}
}

func capture() {
	var out, errors bytes.Buffer
	cmd := exec.Command(exit)
	cmd.Stdout, cmd.Stderr = &out, &errors
	need(cmd.Run())
	require(out.Len() == 0, "output")
}

func many(count int) {
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i := 0; i < count; i++ {
		places <- struct{}{}
		all.Add(1)
		go func() {
			capture()
			<-places
			all.Done()
		}()
	}
	all.Wait()
}

func big(count int) {
	var out, errors bytes.Buffer
	cmd := exec.Command(feed, "bytes", strconv.Itoa(count))
	cmd.Stdout, cmd.Stderr = &out, &errors
	need(cmd.Run())
	require(out.Len() == count, "bytes")
}

func lines(count int) {
	cmd := exec.Command(feed, "lines", strconv.Itoa(count))
	out, err := cmd.StdoutPipe()
	need(err)
	need(cmd.Start())
	seen := 0
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		require(len(scanner.Bytes()) == sizeOfALine-1, "a line")
		seen++
	}
	need(cmd.Wait())
	require(seen == count, "lines")
}

func pipeline() {
	first := exec.Command(feed, "lines", strconv.Itoa(linesOfAPipeline))
	second, third := exec.Command(feed, "copy"), exec.Command(feed, "copy")
	var err error
	second.Stdin, err = first.StdoutPipe()
	need(err)
	third.Stdin, err = second.StdoutPipe()
	need(err)
	var out bytes.Buffer
	third.Stdout = &out
	for _, cmd := range []*exec.Cmd{first, second, third} {
		need(cmd.Start())
	}
	for _, cmd := range []*exec.Cmd{third, second, first} {
		need(cmd.Wait())
	}
	require(out.Len() == linesOfAPipeline*sizeOfALine, "pipeline")
}

func hold(count int) {
	for i := 0; i < count; i++ {
		cmd := exec.Command(feed, "pause")
		out, err := cmd.StdoutPipe()
		need(err)
		errors, err := cmd.StderrPipe()
		need(err)
		need(cmd.Start())
		held, outputs = append(held, cmd), append(outputs, out, errors)
	}
}

func drop() {
	for _, cmd := range held {
		need(cmd.Process.Kill())
		cmd.Wait()
	}
	held, outputs = nil, nil
}

func repeat(count int, what func()) {
	for i := 0; i < count; i++ {
		what()
	}
}

func run(name string, count int) bool {
	switch name {
	case "spawn":
		repeat(count, func() { need(exec.Command(exit).Run()) })
	case "capture":
		repeat(count, capture)
	case "many":
		many(count)
	case "big":
		big(count)
	case "lines":
		lines(count)
	case "pipeline":
		repeat(count, pipeline)
	case "hold":
		hold(count)
	case "drop":
		drop()
	case "ballast":
		ballast = append(ballast, bytes.Repeat([]byte{1}, count))
	default:
		return false
	}
	return true
}

func main() {
	exit, feed = os.Args[1], os.Args[2]
	questions := bufio.NewScanner(os.Stdin)
	for questions.Scan() {
		name, number, _ := strings.Cut(questions.Text(), " ")
		count, err := strconv.Atoi(number)
		need(err)
		begin := time.Now()
		if run(name, count) {
			fmt.Println(time.Since(begin).Nanoseconds())
		} else {
			fmt.Println("-")
		}
	}
}
