// A control plane that we did not write, for the tests of our xDS client: go-control-plane's server on a free port of
// loopback. It prints `port N`, then does what each line of its input says and prints every request that it gets. A line
// sets all clusters there are, by name, and one endpoint of each at the port.
//
//	set VERSION PORT [bad:]NAME ...
//
// A cluster whose name starts with `bad:` (the prefix is not part of the name) asks for ORIGINAL_DST, which no client of
// the subset has.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
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

func clusterOf(name string) types.Resource {
	kind := cluster.Cluster_EDS
	name, bad := strings.CutPrefix(name, "bad:")
	if bad {
		kind = cluster.Cluster_ORIGINAL_DST
	}
	return &cluster.Cluster{
		Name:                 name,
		ConnectTimeout:       durationpb.New(5 * time.Second),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: kind},
		LbPolicy:             cluster.Cluster_LEAST_REQUEST,
		EdsClusterConfig: &cluster.Cluster_EdsClusterConfig{EdsConfig: &core.ConfigSource{
			ResourceApiVersion:    core.ApiVersion_V3,
			ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
		}},
	}
}

func endpointsOf(name string, port uint32) types.Resource {
	name = strings.TrimPrefix(name, "bad:")
	address := &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address:       "127.0.0.1",
		PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
	}}}
	return &endpoint.ClusterLoadAssignment{
		ClusterName: name,
		Endpoints: []*endpoint.LocalityLbEndpoints{{
			Locality: &core.Locality{Region: "eu-1", Zone: "a"},
			LbEndpoints: []*endpoint.LbEndpoint{{
				HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: address}},
			}},
		}},
	}
}

func set(snapshots cache.SnapshotCache, words []string) {
	port := must(strconv.ParseUint(words[1], 10, 16))
	var clusters, endpoints []types.Resource
	for _, name := range words[2:] {
		clusters = append(clusters, clusterOf(name))
		if !strings.HasPrefix(name, "bad:") {
			endpoints = append(endpoints, endpointsOf(name, uint32(port)))
		}
	}
	snapshot := must(cache.NewSnapshot(words[0], map[resource.Type][]types.Resource{
		resource.ClusterType:  clusters,
		resource.EndpointType: endpoints,
	}))
	check(snapshots.SetSnapshot(context.Background(), "all", snapshot))
}

func main() {
	snapshots := cache.NewSnapshotCache(true, oneGroup{}, nil)
	callbacks := server.CallbackFuncs{
		StreamDeltaRequestFunc: func(_ int64, request *discovery.DeltaDiscoveryRequest) error {
			kind := request.TypeUrl[strings.LastIndex(request.TypeUrl, ".")+1:]
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
	}
	service := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(service, server.NewServer(context.Background(), snapshots, callbacks))
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
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
