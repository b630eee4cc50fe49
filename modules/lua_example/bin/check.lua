-- SPDX-License-Identifier: Apache-2.0
-- Up while the page comes, and is ours. Arguments: module, resource.
local url = "http://" .. stead.var.ADDRESS .. ":" .. stead.var.PORT .. "/"
local page, why = stead.http.get{url = url, timeout = "2s"}
if not page then
  return false, why
end
return page.status == 200 and page.body:find(stead.module.name, 1, true) ~= nil
