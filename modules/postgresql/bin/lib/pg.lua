-- SPDX-License-Identifier: Apache-2.0
-- What the hooks share: where PostgreSQL is, and running its programs as its user.
local pg = {user = "postgres", data = stead.var.DATA .. "/pgdata"}

--- The folder of the newest server that is installed, or of the version that made the data.
function pg.programs()
  local version = stead.file.read(pg.data .. "/PG_VERSION")
  local best
  for _, name in ipairs(stead.file.list("/usr/lib/postgresql") or {}) do
    local number = tonumber(name)
    if version and name == version:match("%d+") then
      return "/usr/lib/postgresql/" .. name .. "/bin/"
    elseif number and (not best or number > best) then
      best = number
    end
  end
  if version then
    stead.fail("the data are of PostgreSQL " .. version:match("%d+") .. ", which is not installed here")
  end
  return best and "/usr/lib/postgresql/" .. math.tointeger(best) .. "/bin/" or
    stead.fail("PostgreSQL is not installed: apt-get install postgresql")
end

--- Runs a program as the server's user; its output when it failed ends the hook.
function pg.run(what, argv)
  local full = {"setpriv", "--reuid=" .. pg.user, "--regid=" .. pg.user, "--init-groups", "--", timeout = "120s", cwd = "/"}
  for _, word in ipairs(argv) do
    full[#full + 1] = word
  end
  local result = stead.run(full)
  if result.exit ~= 0 then
    stead.fail(what .. ": " .. (result.err .. result.out):gsub("%s+$", ""))
  end
  return result
end

return pg
