-- SPDX-License-Identifier: Apache-2.0
-- The server is there, and does not answer: stop it and begin it again. (Its death needs no rule: stead.supervise acts.)
Rules = Rules + {
  page_gone = if_then("custom.page", "down", Action.restart, {handle_time = "0s"}),
}
