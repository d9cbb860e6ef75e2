//go:build tools

// Package tools names what is built here, so that go.mod and go.sum hold all of it.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
