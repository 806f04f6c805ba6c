// Google's fake Pub/Sub server for tests, as a program: `pstest PORT` serves on loopback until it is killed.
package main

import (
	"log"
	"os"

	"cloud.google.com/go/pubsub/v2/pstest"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: pstest PORT")
	}
	pstest.NewServerWithAddress("127.0.0.1:" + os.Args[1])
	select {}
}
