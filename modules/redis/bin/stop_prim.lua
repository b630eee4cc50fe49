-- SPDX-License-Identifier: Apache-2.0
-- The server is stopped by Stead when this has run.
stead.log.info("redis-server is being stopped")
