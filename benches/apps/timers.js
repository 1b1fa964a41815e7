// Timers, promises and a watched directory in Node; the same answers as told.py.
const fs = require("fs");
const http = require("http");

let count = 0, chain = 0, ticks = 0, rounds = 0, seen = 0;
const kept = [];
setInterval(() => ticks++, 10);
(function again() {
  setTimeout(() => { rounds++; again(); }, 25);
})();
fs.mkdirSync("watched", { recursive: true });
fs.watch("watched", () => seen++);
const log = fs.openSync("log.txt", "w");

http.createServer((_, answer) => {
  count++;
  chain = (Math.imul(chain, 1664525) + count + 1013904223) >>> 0;
  kept.push({ count });
  fs.writeSync(log, `${count}\n`);
  fs.writeFileSync(`watched/${count % 10}`, String(count));
  const logged = fs.readFileSync("log.txt", "utf8").trim().split("\n").length;
  answer.end(JSON.stringify({
    count, chain,
    counts: { kept: kept.length, last: kept[kept.length - 1].count, logged },
    same: { pid: process.pid },
    grows: { ticks, rounds, seen },
  }));
}).listen(5000, "0.0.0.0");
