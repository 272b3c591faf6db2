-- A chat completion with a prompt of some 2 KB, from 1,000 threads in turn; the last line of the output is JSON.

local THREADS = 1000
local requests = {}
local next_thread = 0

wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer sk-thread-budget-benchmark"
wrk.body = string.format(
  '{"model":"stub","messages":[{"role":"system","content":"You are a careful assistant."},'
    .. '{"role":"user","content":"%s"}],"max_tokens":64,"temperature":0.2}',
  string.rep("What does this line of the log say about it? ", 44)
)

function init()
  for thread = 0, THREADS - 1 do
    wrk.headers["x-thread-id"] = "thread-" .. thread
    requests[thread] = wrk.format()
  end
end

function request()
  next_thread = (next_thread + 1) % THREADS
  return requests[next_thread]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"p50_us":%d,"p99_us":%d,"requests":%d,"seconds":%f,"failed":%d}\n',
    latency:percentile(50),
    latency:percentile(99),
    summary.requests,
    summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
