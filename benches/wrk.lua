-- Sends the body the workload asks for, and tells the result as one line of JSON.
local length = tonumber(os.getenv("BENCH_BODY") or 0)
if length > 0 then
  wrk.method = "POST"
  wrk.body = string.rep("x", length)
end

function done(summary, latency)
  local errors = summary.errors
  local wrong = errors.connect + errors.read + errors.write + errors.timeout + errors.status
  local median, slow = latency:percentile(50) / 1000, latency:percentile(99) / 1000
  local form = '\n{"requests":%d,"microseconds":%d,"errors":%d,"median":%.3f,"slow":%.3f}\n'
  io.write(string.format(form, summary.requests, summary.duration, wrong, median, slow))
end
