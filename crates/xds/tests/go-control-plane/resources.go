// What there is for a name: a listener `NAME:80`, the route table, cluster and endpoints `NAME`; and the roots.
//
// A cluster whose name starts with `bad:` (the prefix is not part of the name) asks for ORIGINAL_DST, which no client of
// the subset has.
package main

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	manager "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

func aggregated() *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion:    core.ApiVersion_V3,
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	}
}

func listenerOf(name string) types.Resource {
	http := &manager.HttpConnectionManager{
		RouteSpecifier: &manager.HttpConnectionManager_Rds{
			Rds: &manager.Rds{RouteConfigName: name, ConfigSource: aggregated()},
		},
		HttpFilters: []*manager.HttpFilter{{
			Name:       "envoy.filters.http.router",
			ConfigType: &manager.HttpFilter_TypedConfig{TypedConfig: must(anypb.New(&router.Router{}))},
		}},
	}
	return &listener.Listener{
		Name:        name + ":80",
		ApiListener: &listener.ApiListener{ApiListener: must(anypb.New(http))},
	}
}

func routesOf(name string) types.Resource {
	return &route.RouteConfiguration{
		Name: name,
		VirtualHosts: []*route.VirtualHost{{
			Name:    name,
			Domains: []string{"*"},
			Routes: []*route.Route{{
				Name:  name,
				Match: &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
				Action: &route.Route_Route{Route: &route.RouteAction{
					ClusterSpecifier: &route.RouteAction_Cluster{Cluster: name},
				}},
			}},
		}},
	}
}

func rootsOf(file string) []types.Resource {
	if file == "" {
		return nil
	}
	pem := &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: must(os.ReadFile(file))}}
	return []types.Resource{&tls.Secret{
		Name: "mesh/roots",
		Type: &tls.Secret_ValidationContext{ValidationContext: &tls.CertificateValidationContext{TrustedCa: pem}},
	}}
}

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
		EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: aggregated()},
	}
}

func endpointsOf(name string, port uint32) types.Resource {
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
	resources := map[resource.Type][]types.Resource{resource.SecretType: rootsOf(*roots)}
	add := func(kind resource.Type, one types.Resource) { resources[kind] = append(resources[kind], one) }
	for _, word := range words[2:] {
		name := strings.TrimPrefix(word, "bad:")
		add(resource.ClusterType, clusterOf(word))
		add(resource.EndpointType, endpointsOf(name, uint32(port)))
		add(resource.ListenerType, listenerOf(name))
		add(resource.RouteType, routesOf(name))
	}
	check(snapshots.SetSnapshot(context.Background(), "all", must(cache.NewSnapshot(words[0], resources))))
}
