// A client of gRPC that finds its servers by xDS: GRPC_XDS_BOOTSTRAP_CONFIG says where it asks. It calls the target of its first
// argument: a line of its input is a method, a line of its output what came of it.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds"
)

// Messages are bytes, so that the test needs no messages of its own.
type plain struct{}

func (plain) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (plain) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (plain) Name() string { return "plain" }

func main() {
	connection, err := grpc.NewClient(os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(plain{})))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer connection.Close()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		asked, answer := []byte("who?"), []byte(nil)
		if err := connection.Invoke(ctx, lines.Text(), &asked, &answer); err != nil {
			fmt.Printf("error %v: %s\n", status.Code(err), status.Convert(err).Message())
		} else {
			fmt.Printf("answer %s\n", answer)
		}
		cancel()
	}
}
