# A web server in one file: the least that has a URL.
require "webrick"

server = WEBrick::HTTPServer.new(BindAddress: "0.0.0.0", Port: 4567, AccessLog: [])
server.mount_proc("/") do |_request, response|
  response["Content-Type"] = "text/plain; charset=utf-8"
  response.body = "Hello from Ruby\n"
end
trap("TERM") { server.shutdown }
server.start
