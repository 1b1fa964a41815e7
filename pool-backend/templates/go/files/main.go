// A web server from the standard library: the least that has a URL.
package main

import (
	"fmt"
	"log"
	"net/http"
)

func main() {
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		fmt.Fprintln(response, "Hello from Go")
	})
	log.Fatal(http.ListenAndServe("0.0.0.0:8080", nil))
}
