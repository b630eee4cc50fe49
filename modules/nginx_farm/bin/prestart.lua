-- SPDX-License-Identifier: Apache-2.0
-- Before the start: nginx must be there. What an unclean end left of it, Stead has stopped already.
if not stead.which("nginx") then
  stead.fail("nginx is not installed: apt-get install nginx-light")
end
