/* SPDX-License-Identifier: Apache-2.0
 *
 * The binary interface between stead-host and a plugin: C data, checked before any call. C++ authors use plugin.hpp,
 * which is compiled into the plugin; no C++ type ever crosses.
 *
 * A plugin is a shared library with one exported symbol:
 *
 *     STEAD_PLUGIN_EXPORT const stead_plugin_descriptor stead_plugin_v1 = {...};
 *
 * Rules
 *   Strings   stead_str, not terminated, owned by the giver, valid for the duration of the call only, unless the
 *             field says "static".
 *   Threads   every plugin function runs on the module's strand, one at a time, except on_lease (the bus thread).
 *             Host functions may be called from any thread of the plugin while it is between create and destroy.
 *   Blocking  a plugin function must return within 100 ms; longer work belongs to a thread of the plugin's own.
 *   Errors    only create may fail (NULL, with a text in err). A probe that fails is a verdict.
 *   Lifetime  create, start, stop, destroy. After stop returns the plugin makes no host call but log. When create
 *             fails, the plugin has cleaned up after itself, and the host destroys what it had created, in reverse.
 *   Unload    never in production.
 *
 * Change log (append; a reader checks struct_size before a later field; anything else bumps abi_major)
 *   1.0  first (bus_wish is part of it)
 *   1.1  host: add_rule, start_hook, cancel_hook; plugin: on_armed, switch_name; transition: automatic
 *   1.2  host: set_role, node_address, stream_keys, ask_witness, command_token, command_done; plugin: on_ready,
 *        on_peer_died, on_witness, answer PENDING of on_command; moment RETIRE (asked only of plugins of 1.2); wish:
 *        port_base, port_step, lease_ns
 *   1.3  host: hook_reason, explain, start_check; schema: ATTR_NUMERIC (an older host lets a name through, which the
 *        plugin then refuses itself)
 *   1.4  wish: witness (without it PARTITION_WITNESS is refused)
 */
#ifndef STEAD_PLUGIN_H
#define STEAD_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STEAD_PLUGIN_MAGIC 0x53544541u /* "STEA" */
#define STEAD_ABI_MAJOR 1u
#define STEAD_ABI_MINOR 4u
#define STEAD_PLUGIN_SYMBOL "stead_plugin_v1"
#define STEAD_LANS_MAX 8u
#define STEAD_PLUGIN_EXPORT __attribute__((visibility("default")))

typedef struct stead_str {
    const char* data;
    uint64_t size;
} stead_str;

/* ---- Schema: what XML the plugin owns. All strings static. ------------------------------------------------------ */

typedef enum stead_type {
    STEAD_TYPE_STRING = 1,
    STEAD_TYPE_INTEGER = 2,  /* limits in min, max */
    STEAD_TYPE_DURATION = 3, /* "10s"; delivered to the plugin in nanoseconds; a bare number is in native_unit */
    STEAD_TYPE_CHOICE = 4,   /* one of `choices`, separated by '|' */
    STEAD_TYPE_ADDRESS = 5,  /* IPv4, IPv6 or a name, which `config` resolves */
    STEAD_TYPE_PORT = 6,     /* 1..65535 */
    STEAD_TYPE_MAC = 7,
    STEAD_TYPE_PATH = 8,    /* absolute */
    STEAD_TYPE_NAME = 9,    /* [A-Za-z0-9_.-]{1,63} */
    STEAD_TYPE_BOOLEAN = 10 /* on|off, yes|no, true|false, 1|0; delivered as "on" or "off" */
} stead_type;

#define STEAD_ATTR_REQUIRED 1u
#define STEAD_ATTR_DYNAMIC 2u /* `stead update` may change it while the module runs */
#define STEAD_ATTR_WINDOWS 4u /* accepted with a warning */
#define STEAD_ATTR_IGNORED 8u /* classic, read and ignored with a warning; `help` says why */
#define STEAD_ATTR_NUMERIC 16u /* ADDRESS: a host name is refused */

typedef struct stead_attr_schema {
    const char* name;
    uint32_t type;             /* stead_type */
    uint32_t flags;            /* STEAD_ATTR_* */
    const char* default_value; /* NULL = none */
    const char* choices;       /* CHOICE only */
    const char* native_unit;   /* DURATION: "ms", "s"; NULL else */
    int64_t min, max;          /* INTEGER: the values; DURATION: nanoseconds; both 0 = no limit */
    const char* help;          /* one line */
} stead_attr_schema;

#define STEAD_ELEM_REQUIRED 1u
#define STEAD_ELEM_REPEATABLE 2u
#define STEAD_ELEM_DYNAMIC 4u
#define STEAD_ELEM_TEXT 8u /* has character data (CDATA) */

typedef struct stead_elem_schema {
    const char* path;  /* "vip/interface_list/interface/virtual_interface": from the root, without "safe/service/" */
    const char* modes; /* "farm", "mirror", "light", '|' separated; NULL = all */
    uint32_t flags;    /* STEAD_ELEM_* */
    uint32_t attr_count;
    const stead_attr_schema* attrs;
    const char* help;
} stead_elem_schema;

/* ---- Configuration handed to the plugin: the elements it owns, checked, macros expanded, defaults filled. -------- */

typedef struct stead_xml_attr {
    stead_str name, value; /* DURATION as decimal nanoseconds */
} stead_xml_attr;

typedef struct stead_xml {
    stead_str name;
    uint32_t line;
    uint32_t attr_count;
    const stead_xml_attr* attrs;
    uint32_t child_count;
    uint32_t reserved_zero;
    const struct stead_xml* children;
    stead_str text;
} stead_xml;

/* ---- Views ------------------------------------------------------------------------------------------------------ */

typedef struct stead_member {
    uint32_t node;   /* 0..63, index of the name in the sorted list of cluster nodes */
    uint32_t weight; /* agreed in this view; 0 = takes no traffic */
    stead_str name;
} stead_member;

typedef struct stead_view {
    uint64_t epoch;
    uint64_t id;
    uint64_t members; /* bit set */
    uint64_t dead;    /* members of the previous view that left without a word */
    uint64_t left;    /* members of the previous view that said goodbye */
    uint32_t self;
    uint32_t member_count;
    const stead_member* member; /* ascending by node */
} stead_view;

/* ---- State changes ---------------------------------------------------------------------------------------------- */

typedef enum stead_state {
    STEAD_STOP = 0,
    STEAD_WAIT = 1,
    STEAD_ALONE = 2,
    STEAD_PRIM = 3,
    STEAD_SECOND = 4,
    STEAD_UP = 5
} stead_state;

/* The moments of a state change in which services take part, in order of a life. The host waits for each service to
 * answer with transition_done(); a service that is late is reported and, after `timeout`, overruled. */
typedef enum stead_moment {
    STEAD_MOMENT_PREPARE = 1, /* before the first start_* script: addresses up, traffic closed */
    STEAD_MOMENT_OPEN = 2,    /* after the last start_* script succeeded: let traffic in */
    STEAD_MOMENT_CLOSE = 3,   /* before the first stop_* script: no new traffic, drain */
    STEAD_MOMENT_RELEASE = 4, /* after the last stop_* script: addresses down */
    STEAD_MOMENT_RETIRE = 5   /* 1.2: WAIT -> STOP, before poststop: end what lives as long as the module */
} stead_moment;

typedef struct stead_transition {
    uint64_t token; /* give it back in transition_done */
    uint32_t moment;
    uint32_t from, to;  /* stead_state */
    uint32_t restart;   /* 1: application restart only; CLOSE and OPEN follow each other, no RELEASE */
    uint32_t at_once;   /* 1: forced; do not drain */
    uint32_t automatic; /* 1: a rule or checker asked for it, not a person; 0 from a host of ABI 1.0 */
    uint64_t timeout_ns;
} stead_transition;

/* ---- Host services ---------------------------------------------------------------------------------------------- */

typedef enum stead_log_level {
    STEAD_LOG_DEBUG = 0,
    STEAD_LOG_EVENT = 1,
    STEAD_LOG_WARNING = 2,
    STEAD_LOG_ERROR = 3
} stead_log_level;

typedef struct stead_address {
    stead_str interface; /* "eth0"; empty = the interface that carries the address's subnet */
    stead_str address;   /* "192.0.2.50", "2001:db8::50" */
} stead_address;

typedef struct stead_host_v1 {
    uint32_t struct_size, abi_minor;
    void* context; /* first argument of every function below */

    /* Facts, valid from create to destroy. */
    stead_str module, node, mode, var_folder, prefix; /* prefix: the install tree, for data files */
    uint32_t module_id, self;
    uint64_t seed_high, seed_low; /* the cluster's hash seed */

    void (*log)(void* context, uint32_t level, stead_str line);
    uint64_t (*now)(void* context); /* CLOCK_BOOTTIME, ns */

    /* Timers: on_timer(self, id) once at or after `at`; setting an id again moves it; at 0 cancels. */
    void (*set_timer)(void* context, uint64_t id, uint64_t at_boottime_ns);

    /* Whiteboard. publish: value.data NULL removes. Returns 0, or -1 beyond the limits (name 127, value 255 bytes). */
    int32_t (*publish)(void* context, stead_str name, stead_str value);
    /* Copies the value as `node` wrote it into out (capacity cap); returns its size, or -1 when there is none. */
    int64_t (*read)(void* context, uint32_t node, stead_str name, char* out, uint64_t cap);
    /* on_resource is called for names that start with `prefix`, of every node, now and on each change. */
    void (*watch)(void* context, stead_str prefix);

    /* Messages to peers of the same plugin: at most 1100 bytes, ordered, acknowledged. Returns 0 or -1. */
    int32_t (*send)(void* context, uint64_t nodes, stead_str kind, uint32_t version, stead_str body);

    /* Membership wishes of this node: a new agreed view follows. */
    void (*set_weight)(void* context, uint32_t weight); /* 0..65535; 0 = no share; the rest is the plugin's own */
    /* Digest of what must be equal on all members of a view (rules, powers, seed). Call it in create. */
    void (*set_config)(void* context, uint64_t digest);

    void (*transition_done)(void* context, uint64_t token, int32_t ok, stead_str reason);
    /* Asks for an action as the failover machine would: "stop", "stopstart", "restart", "wait"; counted by maxloop.
     * 1.2: words after "restart" are for the stop_* and start_* scripts of that restart, after their own arguments:
     * "restart -Services nginx,php". */
    void (*request)(void* context, stead_str action, stead_str reason);

    /* Network, by the shim. Blocking for at most 50 ms; 0 or -1 with a text in err.
     * add_address: /32 or /128, noprefixroute, IPv6 nodad with preferred lifetime 0; put back within 200 ms when
     * somebody removes it, until remove_address. announce: gratuitous ARP or unsolicited NA. */
    int32_t (*add_address)(void* context, const stead_address* address, char* err, uint32_t err_cap);
    void (*remove_address)(void* context, const stead_address* address);
    int32_t (*announce)(void* context, const stead_address* address, const uint8_t mac[6], char* err, uint32_t err_cap);
    /* Is somebody else answering for the address? 1 yes (mac filled), 0 no, -1 error. Blocks up to `timeout_ns`. */
    int32_t (*probe)(void* context, const stead_address* address, uint64_t timeout_ns, uint8_t mac[6]);
    /* The interface whose subnet carries the address; fills name (16 bytes), index and MAC. 0 or -1. */
    int32_t (*find_interface)(void* context, const stead_address* address, char name[16], uint32_t* ifindex,
                              uint8_t mac[6]);
    /* on_link(self, ifindex, up) for each change of carrier or existence. */
    void (*watch_link)(void* context, uint32_t ifindex);

    /* Runs bin/<name> of the module (executable or Lua); on_hook_done(self, token, exit) follows. Returns a token > 0,
     * or 0 when there is no such hook. */
    uint64_t (*run_hook)(void* context, stead_str name, const stead_str* argv, uint32_t argc, uint64_t timeout_ns);

    /* 1.1 */
    /* Adds a rule to the failover machine, in the classic language: "t_web: if (tcp.web == down) then restart();".
     * Callable in create and in on_update only. An administrator's rule of the same label wins. 0, or -1 with a text
     * that names the column. */
    int32_t (*add_rule)(void* context, stead_str rule, char* err, uint32_t err_cap);
    /* Like run_hook, but beside other hooks, not after them, and for as long as it likes when timeout_ns is 0. Returns
     * a token > 0. on_hook_done follows once: exit code 127 when there is no such hook, or when 256 run already. */
    uint64_t (*start_hook)(void* context, stead_str name, const stead_str* argv, uint32_t argc, uint64_t timeout_ns);
    /* Ends all that the hook started; on_hook_done follows. A token that is over is ignored. */
    void (*cancel_hook)(void* context, uint64_t token);

    /* 1.2 */
    /* Services, mode mirror: the state in which this node belongs: STEAD_WAIT, ALONE, PRIM or SECOND. The host walks
     * there, script by script, one row of the table after the other; the last call counts. WAIT leaves a serving state
     * as soon as the stop scripts allow. `reason` is shown and logged. `expected` 1: not there yet, but as it should,
     * so the state is Transient (WAIT: a normal part of starting; SECOND: resyncing). 0: WAIT is NotReady, any other
     * is Ready. The same state again changes `reason` and `expected` only. Ignored while on_ready says 0: the host
     * forgets the role then, and the plugin gives one anew when it hears on_ready(1). */
    void (*set_role)(void* context, uint32_t state, stead_str reason, uint32_t expected);
    /* The numeric address of a node on a LAN of cluster.xml, terminated; an empty LAN = the first with that node and
     * this one. Of this node itself: the one to bind to (laddr). 0, or -1 when there is none. `cap` of 64 is enough. */
    int32_t (*node_address)(void* context, stead_str lan, uint32_t node, char* out, uint32_t cap);
    /* Keys for a stream of the plugin's own to its peers, derived (HKDF) from the cluster key for this module, plugin
     * and `purpose`: 1 or 2 of 32 bytes, the one to use first. Returns how many. They change with the cluster key
     * (rotation): ask again for each connection, and as a server accept either. */
    uint32_t (*stream_keys)(void* context, stead_str purpose, uint8_t out[2][32]);
    /* Compare-and-set on another node's disk: granted when `counter` is higher than the stored one of `key`, or equal
     * with the same holder. on_witness(self, token, verdict) follows once, within `timeout_ns`. Returns a token, or 0
     * when there is no such node. The keys of each module are its own. */
    uint64_t (*ask_witness)(void* context, stead_str node, stead_str key, uint64_t counter, uint32_t holder,
                            uint64_t timeout_ns);
    /* The command that on_command is being called for; 0 outside of that call, and when the answer cannot wait. */
    uint64_t (*command_token)(void* context);
    /* The answer to a command for which on_command returned STEAD_COMMAND_PENDING: ok 1 done, 0 refused; `text`, up
     * to 64 KiB, is shown either way. Once per token; one that is over is ignored. What is still open when the module
     * has stopped is refused by the host. */
    void (*command_done)(void* context, uint64_t token, int32_t ok, stead_str text);

    /* 1.3 */
    /* Inside on_hook_done only: why the hook that ended did not succeed, for people, one line: what a Lua hook returned
     * after false or its error text; of a program "exit 3" and the last line that it wrote. Copies it into `out`;
     * returns its size, 0 when there is nothing to say. */
    int64_t (*hook_reason)(void* context, char* out, uint64_t cap);
    /* Why a resource that this plugin has just published has its value: shown beside it by `state -v`, until it is
     * published again. At most 255 bytes; the rest is cut. Not spread to other nodes. */
    void (*explain)(void* context, stead_str name, stead_str reason);
    /* Like start_hook, for what only looks: nothing that it started outlives it, also when it ends with 0. */
    uint64_t (*start_check)(void* context, stead_str name, const stead_str* argv, uint32_t argc, uint64_t timeout_ns);
} stead_host_v1;

/* What on_command returns. */
#define STEAD_COMMAND_PENDING 1 /* 1.2: command_done follows */
#define STEAD_COMMAND_DONE 0
#define STEAD_COMMAND_REFUSED (-1)
#define STEAD_COMMAND_NOT_MINE (-2)

typedef enum stead_witness_verdict {
    STEAD_WITNESS_UNANSWERED = 0,
    STEAD_WITNESS_GRANTED = 1,
    STEAD_WITNESS_REFUSED = 2
} stead_witness_verdict;

/* ---- When a checker probes -------------------------------------------------------------------------------------- */

/* The classes of the classic `when` and `class` attributes. Between the scripts named, the class is armed. */
#define STEAD_WHEN_PRE 1u    /* after prestart .. before poststop */
#define STEAD_WHEN_BOTH 2u   /* after start_both .. before stop_both; so too those that follow */
#define STEAD_WHEN_PRIM 4u   /* start_prim: PRIM, ALONE, UP */
#define STEAD_WHEN_SECOND 8u /* start_second */
#define STEAD_WHEN_SEC 16u   /* start_sec: SECOND, ALONE, UP */

/* ---- What a service asks of its module's bus --------------------------------------------------------------------- */

typedef enum stead_partition {
    STEAD_PARTITION_SERVE = 0,    /* each side of a cut goes on */
    STEAD_PARTITION_MAJORITY = 1, /* only the side with more than half of the nodes */
    STEAD_PARTITION_WITNESS = 2   /* that, and of two halves the one to which `witness` gives its word */
} stead_partition;

/* Zeroed by the host, so a plugin fills in only what it cares about. Strings point into `config` or are static. */
typedef struct stead_bus_wish {
    uint32_t struct_size;
    uint32_t port;        /* UDP; 0 = 4803 + (module id - 1) * 3 */
    uint32_t partition;   /* stead_partition */
    uint32_t slost_count; /* with pulse_ns: the classic timing; 0 = by profile */
    uint64_t pulse_ns;
    stead_str profile;  /* "fast", "default", "safe"; empty = cluster.xml's */
    uint32_t lan_count; /* 0 = every LAN of cluster.xml */
    uint32_t reserved_zero;
    stead_str lans[STEAD_LANS_MAX];
    /* 1.2 */
    uint32_t port_base, port_step; /* with port 0 and a base: the port is base + (module id - 1) * step */
    uint64_t lease_ns;             /* with pulse_ns: shorter than slost_count * pulse_ns; 0 = as the classic timing */
    /* 1.4 */
    stead_str witness; /* with PARTITION_WITNESS: a node of cluster.xml that is none of this group */
} stead_bus_wish;

/* ---- The plugin ------------------------------------------------------------------------------------------------- */

typedef enum stead_kind { STEAD_KIND_CHECKER = 1, STEAD_KIND_SERVICE = 2 } stead_kind;

typedef struct stead_plugin_descriptor {
    uint32_t magic, abi_major, abi_minor, struct_size;
    const char* id;      /* "farm", "checkers.tcp"; static */
    const char* version; /* the plugin's own; static */
    uint32_t kind;       /* stead_kind */
    uint32_t schema_count;
    const stead_elem_schema* schema;

    /* `config`: an element named "service" whose children are the elements this plugin owns. Valid during the call. */
    void* (*create)(const stead_host_v1* host, const stead_xml* config, char* err, uint32_t err_cap);
    void (*start)(void* self);
    void (*stop)(void* self);
    void (*destroy)(void* self);

    /* Any of these may be NULL. */
    void (*on_timer)(void* self, uint64_t id);
    void (*on_view)(void* self, const stead_view* view); /* members 0: no view holds this node */
    void (*on_resource)(void* self, uint32_t node, stead_str name, stead_str value); /* value.data NULL: removed */
    void (*on_message)(void* self, uint32_t from, stead_str kind, uint32_t version, stead_str body);
    void (*on_transition)(void* self, const stead_transition* transition); /* services */
    void (*on_link)(void* self, uint32_t ifindex, uint32_t up);
    void (*on_hook_done)(void* self, uint64_t token, int32_t exit_code);
    /* New values of dynamic attributes; the others are unchanged. 0, or -1 with a text: the old ones stay. */
    int32_t (*on_update)(void* self, const stead_xml* config, char* err, uint32_t err_cap);
    /* Bus thread. May act until then (CLOCK_BOOTTIME ns; 0 = not at all). One aligned 8-byte store. */
    void (*on_lease)(void* self, uint64_t until_boottime_ns);
    /* A descriptor of one page whose first 8 bytes are the lease as stored: steadd closes it for a dead host.
     * -1 = none. Stays the plugin's; the host duplicates it. */
    int32_t (*lease_fd)(void* self);
    /* A command for the plugin: "power node2 3", "errd list", "swap"; writes an answer. Returns STEAD_COMMAND_*. */
    int32_t (*on_command)(void* self, stead_str verb, const stead_str* argv, uint32_t argc, char* out,
                          uint32_t out_cap);
    /* Extra checks that the schema cannot say, for `confcheck`: calls report once per finding (warning 1 or error 0).
     * No instance exists. */
    void (*check)(const stead_xml* config, void* context,
                  void (*report)(void* context, uint32_t line, uint32_t warning, stead_str text));
    /* Removes what a dead host of this module left behind (addresses, filters), without an instance. 0 or -1. */
    int32_t (*cleanup)(const stead_host_v1* host, const stead_xml* config, char* err, uint32_t err_cap);
    /* Services: which LANs, port and timing the module's bus gets. No instance exists. At most one plugin of a module
     * may wish. 0, or -1 with a text. */
    int32_t (*bus_wish)(const stead_xml* config, stead_bus_wish* wish, char* err, uint32_t err_cap);

    /* 1.1 */
    /* Checkers: the classes armed from now on, a set of STEAD_WHEN_*. Called after start (with what is armed then) and
     * at each change. A checker probes while its class is armed, and publishes "init" for what is not armed. While the
     * administrator has switched checkers off, no class is armed and rules see their resources as unknown. */
    void (*on_armed)(void* self, uint32_t when);
    /* Static: the switch that the administrator turns ("stead checker off", "stead errd off"). NULL = "checker". */
    const char* switch_name;

    /* 1.2 */
    /* Services: 1 = prestart is over and no rule, person or other plugin keeps the module from a role: this
     * plugin may choose one (set_role). 0 = it must be in WAIT or stop. Called after start and at each change. */
    void (*on_ready)(void* self, uint32_t ready);
    /* The steadd of that node has seen the end of its stead-host of this module and closed its lease. It may come
     * before or after the view without that node. */
    void (*on_peer_died)(void* self, uint32_t node);
    void (*on_witness)(void* self, uint64_t token, uint32_t verdict); /* stead_witness_verdict */
} stead_plugin_descriptor;

/* Defined by the plugin; the one symbol that it exports. */
extern STEAD_PLUGIN_EXPORT const stead_plugin_descriptor stead_plugin_v1;

#ifdef __cplusplus
}
#endif
#endif
