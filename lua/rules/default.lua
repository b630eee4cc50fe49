--Lua Rules
-- SPDX-License-Identifier: Apache-2.0
-- The rules of every module, unless <failover extends="no">. A module takes one away by Rules.disable("label"), and
-- replaces one by another of the same label. Hold time 0 where the rule does not say another: checkers damp by themselves.
Rules = Rules + {
  -- Another module that this one needs.
  module_failure = if_then("module.? == down", Action.wait),

  -- A network that the virtual addresses need.
  interface_failure = if_then("intf.? == down", Action.wait),

  -- Isolated, and no witness answers.
  splitbrain_failure = if_then("splitbrain.uptodate == down", Action.wait),

  -- A virtual address is gone. Stead puts one back within 200 ms; only one that stays away is a failure.
  ip_failure = if_then("ip.? == down", Action.stopstart, { handle_time = "1s" }),

  _group = "default",
}
