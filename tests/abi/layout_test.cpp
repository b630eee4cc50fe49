// SPDX-License-Identifier: Apache-2.0
// The layout of ABI 1.3 (64-bit). A number here never changes: append to the structs and add lines.
#include <stead/plugin.h>

#include <cstddef>

static_assert(sizeof(stead_str) == 16);
static_assert(sizeof(stead_attr_schema) == 64);
static_assert(offsetof(stead_attr_schema, min) == 40);
static_assert(offsetof(stead_attr_schema, help) == 56);
static_assert(sizeof(stead_elem_schema) == 40);
static_assert(offsetof(stead_elem_schema, attrs) == 24);
static_assert(offsetof(stead_elem_schema, help) == 32);
static_assert(sizeof(stead_xml_attr) == 32);
static_assert(sizeof(stead_xml) == 64);
static_assert(offsetof(stead_xml, children) == 40);
static_assert(offsetof(stead_xml, text) == 48);
static_assert(sizeof(stead_member) == 24);
static_assert(offsetof(stead_member, name) == 8);
static_assert(sizeof(stead_view) == 56);
static_assert(offsetof(stead_view, self) == 40);
static_assert(offsetof(stead_view, member) == 48);
static_assert(sizeof(stead_transition) == 40);
static_assert(offsetof(stead_transition, timeout_ns) == 32);
static_assert(sizeof(stead_address) == 32);
static_assert(sizeof(stead_bus_wish) == 208); // 176 in 1.1, 192 in 1.3
static_assert(offsetof(stead_bus_wish, witness) == 192);
static_assert(offsetof(stead_bus_wish, port_base) == 176);
static_assert(offsetof(stead_bus_wish, pulse_ns) == 16);
static_assert(offsetof(stead_bus_wish, lans) == 48);
static_assert(sizeof(stead_host_v1) == 360); // 336 in 1.2
static_assert(offsetof(stead_host_v1, context) == 8);
static_assert(offsetof(stead_host_v1, module) == 16);
static_assert(offsetof(stead_host_v1, seed_low) == 112);
static_assert(offsetof(stead_host_v1, log) == 120);
static_assert(offsetof(stead_host_v1, set_timer) == 136);
static_assert(offsetof(stead_host_v1, publish) == 144);
static_assert(offsetof(stead_host_v1, watch) == 160);
static_assert(offsetof(stead_host_v1, send) == 168);
static_assert(offsetof(stead_host_v1, set_config) == 184);
static_assert(offsetof(stead_host_v1, transition_done) == 192);
static_assert(offsetof(stead_host_v1, request) == 200);
static_assert(offsetof(stead_host_v1, add_address) == 208);
static_assert(offsetof(stead_host_v1, probe) == 232);
static_assert(offsetof(stead_host_v1, watch_link) == 248);
static_assert(offsetof(stead_host_v1, run_hook) == 256);
static_assert(offsetof(stead_host_v1, add_rule) == 264);    // 1.1
static_assert(offsetof(stead_host_v1, start_hook) == 272);  // 1.1
static_assert(offsetof(stead_host_v1, cancel_hook) == 280); // 1.1
static_assert(offsetof(stead_host_v1, set_role) == 288);    // 1.2
static_assert(offsetof(stead_host_v1, node_address) == 296);
static_assert(offsetof(stead_host_v1, stream_keys) == 304);
static_assert(offsetof(stead_host_v1, ask_witness) == 312);
static_assert(offsetof(stead_host_v1, command_token) == 320);
static_assert(offsetof(stead_host_v1, command_done) == 328);
static_assert(offsetof(stead_host_v1, hook_reason) == 336); // 1.3
static_assert(offsetof(stead_host_v1, explain) == 344);
static_assert(offsetof(stead_host_v1, start_check) == 352);
static_assert(sizeof(stead_plugin_descriptor) == 232);
static_assert(offsetof(stead_plugin_descriptor, id) == 16);
static_assert(offsetof(stead_plugin_descriptor, kind) == 32);
static_assert(offsetof(stead_plugin_descriptor, schema) == 40);
static_assert(offsetof(stead_plugin_descriptor, create) == 48);
static_assert(offsetof(stead_plugin_descriptor, destroy) == 72);
static_assert(offsetof(stead_plugin_descriptor, on_timer) == 80);
static_assert(offsetof(stead_plugin_descriptor, on_transition) == 112);
static_assert(offsetof(stead_plugin_descriptor, on_update) == 136);
static_assert(offsetof(stead_plugin_descriptor, on_lease) == 144);
static_assert(offsetof(stead_plugin_descriptor, on_command) == 160);
static_assert(offsetof(stead_plugin_descriptor, cleanup) == 176);
static_assert(offsetof(stead_plugin_descriptor, bus_wish) == 184);
static_assert(offsetof(stead_plugin_descriptor, on_armed) == 192); // 1.1
static_assert(offsetof(stead_plugin_descriptor, switch_name) == 200);
static_assert(offsetof(stead_plugin_descriptor, on_ready) == 208); // 1.2
static_assert(offsetof(stead_plugin_descriptor, on_peer_died) == 216);
static_assert(offsetof(stead_plugin_descriptor, on_witness) == 224);
