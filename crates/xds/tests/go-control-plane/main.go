// A control plane that we did not write, for the tests of our xDS client and of the sidecar: go-control-plane's server. It
// prints `port N`, then does what each line of its input says and prints every request that it gets. A line sets all there
// is, by name (resources.go).
//
//	set VERSION PORT [bad:]NAME ...
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

var (
	listen      = flag.String("listen", "127.0.0.1:0", "where it listens")
	certificate = flag.String("certificate", "", "its certificate; without one there is no TLS")
	key         = flag.String("key", "", "the key of that")
	roots       = flag.String("roots", "", "who vouches for callers, and the secret mesh/roots")
	whole       = flag.Bool("whole", false, "states of the world alone, no incremental xDS")
)

var output sync.Mutex

func say(format string, values ...any) {
	output.Lock()
	defer output.Unlock()
	fmt.Printf(format+"\n", values...)
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// oneGroup serves every node the same.
type oneGroup struct{}

func (oneGroup) ID(*core.Node) string { return "all" }

// wholeOnly is a server of states of the world.
type wholeOnly struct{ server.Server }

func (wholeOnly) DeltaAggregatedResources(discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	say("refused incremental")
	return status.Error(codes.Unimplemented, "states of the world alone")
}

func kindOf(url string) string { return url[strings.LastIndex(url, ".")+1:] }

// Requests as they come. What was accepted before is a number of resources in the incremental form, a version in the other.
func callbacks() server.CallbackFuncs {
	return server.CallbackFuncs{
		StreamDeltaRequestFunc: func(_ int64, request *discovery.DeltaDiscoveryRequest) error {
			kind := kindOf(request.TypeUrl)
			switch {
			case request.ErrorDetail != nil:
				say("nack %s %s", kind, request.ErrorDetail.Message)
			case request.ResponseNonce != "":
				say("ack %s", kind)
			default:
				say("ask %s %d", kind, len(request.InitialResourceVersions))
			}
			return nil
		},
		StreamRequestFunc: func(_ int64, request *discovery.DiscoveryRequest) error {
			kind := kindOf(request.TypeUrl)
			switch {
			case request.ErrorDetail != nil:
				say("whole nack %s %q %s", kind, request.VersionInfo, request.ErrorDetail.Message)
			case request.ResponseNonce != "":
				say("whole ack %s %q", kind, request.VersionInfo)
			default:
				say("whole ask %s %q", kind, request.VersionInfo)
			}
			return nil
		},
	}
}

func transport() grpc.ServerOption {
	if *certificate == "" {
		return grpc.EmptyServerOption{}
	}
	callers := x509.NewCertPool()
	if !callers.AppendCertsFromPEM(must(os.ReadFile(*roots))) {
		check(errors.New("no roots"))
	}
	return grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{must(tls.LoadX509KeyPair(*certificate, *key))},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    callers,
		MinVersion:   tls.VersionTLS13,
	}))
}

func main() {
	flag.Parse()
	// Not the one of Envoy, which waits until a subscriber has asked for all there is.
	snapshots := cache.NewSnapshotCache(false, oneGroup{}, nil)
	service := grpc.NewServer(transport(), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		say("unknown %s", method)
		return status.Error(codes.Unimplemented, "there is no such service")
	}))
	resources := server.NewServer(context.Background(), snapshots, callbacks())
	if *whole {
		resources = wholeOnly{resources}
	}
	discovery.RegisterAggregatedDiscoveryServiceServer(service, resources)
	listener := must(net.Listen("tcp", *listen))
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			if words := strings.Fields(lines.Text()); len(words) > 2 && words[0] == "set" {
				set(snapshots, words[1:])
				say("done %s", words[1])
			}
		}
		// Whoever started this is gone.
		os.Exit(0)
	}()
	say("port %d", listener.Addr().(*net.TCPAddr).Port)
	check(service.Serve(listener))
}
