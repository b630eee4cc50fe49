-- SPDX-License-Identifier: Apache-2.0
-- The server ends when this has run (SIGINT, and after 60 s without mercy); with "force" at once. Its data survive either.
stead.log.info((...) == "force" and "PostgreSQL is ended" or "PostgreSQL is being stopped")
