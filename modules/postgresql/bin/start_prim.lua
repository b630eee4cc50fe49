-- SPDX-License-Identifier: Apache-2.0
-- The server of this mirror, kept by Stead from here on; it is stopped with the module's role (SIGINT: fast shutdown).
local pg = require("pg")
local port = stead.var.PORT
local programs = pg.programs()
local sockets = "/run/stead-" .. stead.module.name -- its Unix socket and pg_hba.conf

local function own(folder, mode)
  stead.file.mkdir(folder)
  stead.run{"chown", pg.user .. ":" .. pg.user, folder}
  stead.run{"chmod", mode, folder}
end

own(sockets, "0755")
if not stead.file.exists(pg.data .. "/PG_VERSION") then
  stead.log.info("first start: making the database in " .. pg.data)
  own(stead.var.DATA, "0755")
  local unfinished = pg.data .. ".new" -- a node that is lost meanwhile must not leave half a database
  stead.run{"rm", "-rf", unfinished}
  own(unfinished, "0700")
  pg.run("initdb", {programs .. "initdb", "-D", unfinished, "--data-checksums", "--auth-local=peer",
                    "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"})
  assert(os.rename(unfinished, pg.data))
end
-- What an unclean end left: its number may belong to another process by now, and nobody else can have these data open.
os.remove(pg.data .. "/postmaster.pid")

local hba = sockets .. "/pg_hba.conf"
stead.file.write(hba, stead.file.read(stead.module.conf .. "/pg_hba.conf") or
                        stead.fail("conf/pg_hba.conf is missing in the module"), 420)
stead.supervise{programs .. "postgres", "-D", pg.data, "-c", "port=" .. port, "-c", "hba_file=" .. hba,
                "-c", "listen_addresses=127.0.0.1," .. stead.var.VIP, "-c", "unix_socket_directories=" .. sockets,
                name = "postgres", user = pg.user, cwd = "/", action = "noaction", stop_signal = "INT", stop_timeout = "60s"}

-- It may have to replay its log first: as long as the time limit of this hook allows.
repeat
  local ready = stead.run{programs .. "pg_isready", "-q", "-h", sockets, "-p", port, "-t", "3", timeout = "10s"}
  if ready.exit == 0 then
    break
  end
  if not stead.supervised("postgres") then
    stead.fail("PostgreSQL ended at once; its reason is in the user log")
  end
  stead.sleep("200ms")
until false
stead.log.info("PostgreSQL serves " .. stead.var.VIP .. ":" .. port)
