-- SPDX-License-Identifier: Apache-2.0
-- Redis, kept by Stead from here on: its death restarts it, the fourth time in 24 h the other server takes over.
local port = math.tointeger(tonumber(stead.var.PORT))
stead.run{"chown", "redis:redis", stead.var.DATA}
stead.supervise{stead.which("redis-server"), "--dir", stead.var.DATA, "--port", tostring(port),
                "--bind", "127.0.0.1", stead.var.VIP, "--protected-mode", "no", "--save", "",
                "--appendonly", "yes", "--appendfsync", "always", name = "redis", user = "redis", cwd = "/"}
-- It may have to read its log first: as long as the time limit of this hook allows.
repeat
  local answer, why = stead.tcp.ask{port = port, send = "PING\r\n", expect = "+PONG", timeout = "2s"}
  if not answer then
    if not stead.supervised("redis") then
      stead.fail("redis-server ended at once; its reason is in the user log (" .. why .. ")")
    end
    stead.sleep("100ms")
  end
until answer
