-- SPDX-License-Identifier: Apache-2.0
local address, port = stead.var.ADDRESS, stead.var.PORT
local www = stead.module.var .. "/www"
stead.file.mkdir(www)
stead.file.render("index.html", www .. "/index.html", {MODULE = stead.module.name, NODE = stead.module.node})

-- From here on Stead keeps it: a death restarts the application, and it ends after stop_both.
stead.supervise{"python3", "-m", "http.server", port, "--bind", address, "--directory", www,
                name = "web", env = {PYTHONUNBUFFERED = "1"}, stop_timeout = "5s"}

-- Started means that it answers. Should it die meanwhile, this hook fails at once with the reason.
local listening, why = stead.wait_tcp(address, math.tointeger(tonumber(port)), "20s")
if not listening then
  stead.fail(why)
end
local page, problem = stead.http.get{url = "http://" .. address .. ":" .. port .. "/", timeout = "5s"}
if not page or page.status ~= 200 then
  stead.fail(problem or ("the first page has status " .. page.status))
end
stead.log.info("the web server answers", {address = address, port = port})
