// SPDX-License-Identifier: Apache-2.0
#include "world.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>

/// What a driver does with each effect.
namespace stead::mirror::sim {

nanoseconds World::disk_time(unsigned n) {
    if (disk(n).hung) {
        return milliseconds{500 + random_.below(5000)};
    }
    return microseconds{5 + random_.below(disk(n).slow || random_.chance(5) ? 20'000 : 200)};
}
nanoseconds World::sync_time(unsigned n) {
    if (disk(n).hung) {
        return milliseconds{500 + random_.below(5000)};
    }
    return microseconds{50 + random_.below(disk(n).slow || random_.chance(5) ? 60'000 : 900)};
}

void World::done(unsigned n, Done result, nanoseconds delay) {
    at(delay, [this, n, result = std::move(result), life = nodes_[n].life] {
        if (nodes_[n].life == life) {
            on_node(n, [this, n, result, life] {
                if (nodes_[n].life == life) {
                    step(n, result);
                }
            });
        }
    });
}

/// The effect happens when it completes; if the node crashes before, it may happen all the same.
void World::effect(unsigned n, nanoseconds delay, Ticket ticket, std::function<void(Done&)> what) {
    Node& node = nodes_[n];
    const auto state = std::make_shared<bool>(false);
    const auto once = [state, what](Done& result) {
        if (!*state) {
            *state = true;
            what(result);
        }
    };
    node.unfinished.push_back([once] {
        Done ignored;
        once(ignored);
    });
    if (node.unfinished.size() > 256) {
        node.unfinished.erase(node.unfinished.begin(), node.unfinished.begin() + 128); // long done
    }
    at(delay, [this, n, once, ticket, life = node.life] {
        if (nodes_[n].life != life) {
            return;
        }
        Done result{.ticket = ticket};
        once(result);
        on_node(n, [this, n, result, life] {
            if (nodes_[n].life == life) {
                step(n, result);
            }
        });
    });
}

/// Record and logs: one after the other.
void World::in_order(unsigned n, Ticket ticket, std::function<void(Done&)> what) {
    Node& node = nodes_[n];
    node.disk_free = std::max(node.disk_free, now_) + sync_time(n);
    effect(n, node.disk_free - now_, ticket, std::move(what));
}

void World::perform(unsigned n, const Output& output) {
    std::visit([this, n](const auto& what) { on(n, what); }, output);
    Node& node = nodes_[n];
    if (node.trap && node.trap->effect == output.index() && node.trap->count-- == 0) {
        const Trap trap = *std::exchange(node.trap, std::nullopt);
        at(microseconds{random_.below(1000)}, [this, n, trap, life = node.life] {
            if (nodes_[n].life == life && nodes_[n].core != nullptr) {
                crash(n, trap.power);
            }
        });
    }
}

void World::on(unsigned n, const Persist& o) {
    in_order(n, o.ticket, [this, n, record = o.record](Done&) {
        disk(n).record = record;
        // Even if it dies before it knows: this is what it goes on from.
        nodes_[1 - n].left_behind = nodes_[1 - n].left_behind || record.role == Role::alone;
    });
}

void World::on(unsigned n, const LogReset& o) {
    in_order(n, o.ticket, [this, n, id = o.id, entries = o.entries](Done& result) {
        Disk& on_disk = disk(n);
        if (on_disk.full) {
            ++on_disk.errors;
            result.error = ENOSPC;
        } else {
            on_disk.log = {id, true, entries};
        }
    });
}

void World::on(unsigned n, const LogAppend& o) {
    in_order(n, o.ticket, [this, n, entries = o.entries](Done& result) {
        Disk& on_disk = disk(n);
        if (on_disk.full && random_.chance(50)) { // it has space reserved, most of the time
            ++on_disk.errors;
            result.error = ENOSPC;
        } else {
            on_disk.log.entries.insert(on_disk.log.entries.end(), entries.begin(), entries.end());
        }
    });
}

void World::on(unsigned n, const Apply& o) {
    effect(n, disk_time(n), o.ticket, [this, n, operation = o.operation, park = o.park](Done& result) {
        result.error = disk(n).apply(operation, park, random_);
        note(n, "applied " + describe(operation) + " error " + std::to_string(result.error), 2);
        if (result.error == ENOENT) {
            fail("node" + std::to_string(n) + " has a change for an inode that it does not have");
        }
    });
}

void World::on(unsigned n, const SyncInode& o) {
    effect(n, sync_time(n), o.ticket, [this, n, fid = o.fid, ticket = o.ticket](Done& result) {
        result.error = disk(n).sync(fid, random_);
        if (result.error != 0) {
            nodes_[n].distrusted.insert(ticket);
            nodes_[n].untold = true;
            sync_failed_beside_dead(n);
            lost_by_disk(n, fid);
            note(n, "sync of " + std::to_string(fid.low) + " failed", 2);
        }
    });
}

/// Both have failed, and this one may not know it yet and step down for the other one.
void World::sync_failed_beside_dead(unsigned n) {
    if (!alive(1 - n)) {
        forget_unsynced();
    }
}

/// What a failed sync dropped before the resync touched it, no roll-back gives back.
void World::lost_by_disk(unsigned n, const Fid& fid) {
    if (!nodes_[n].before_resync) {
        return;
    }
    auto& before = nodes_[n].before_resync->inodes;
    const auto now = disk(n).cache.inodes.find(fid.low);
    if (const auto then = before.find(fid.low); then != before.end() && now != disk(n).cache.inodes.end()) {
        if (!disk(n).saved(inode_target(fid.low))) {
            then->second.attributes = now->second.attributes;
        }
        for (std::size_t zone = 0; zone < zones; ++zone) {
            if (!disk(n).saved(zone_target(fid.low, zone))) {
                then->second.data[zone] = now->second.data[zone];
            }
        }
    }
}

void World::on(unsigned n, const Flush& o) {
    effect(n, sync_time(n), o.ticket, [this, n](Done& result) {
        result.error = disk(n).flush(random_);
        if (result.error != 0) {
            sync_failed_beside_dead(n);
        }
    });
}

void World::on(unsigned n, const Store& o) {
    effect(n, disk_time(n), o.ticket, [this, n, target = o.target, payload = o.payload, park = o.park](Done& result) {
        result.error = disk(n).store(target, *payload, park, result.created);
    });
}

void World::on(unsigned n, const SaveUndo& o) {
    effect(n, sync_time(n), o.ticket,
           [this, n, targets = o.targets](Done& result) { result.error = disk(n).save_undo(targets); });
}

void World::on(unsigned n, const RollBack& o) {
    effect(n, sync_time(n), o.ticket, [this, n](Done&) {
        disk(n).roll_back();
        ++statistics.roll_backs;
        if (nodes_[n].before_resync) {
            differences(*nodes_[n].before_resync, disk(n).cache,
                        [this](const Target&) { fail("U1: the roll-back left something of the resync"); });
        }
    });
}

void World::on(unsigned n, const StartUndo& o) {
    disk(n).start_undo(o.go_on);
    if (!o.go_on) {
        nodes_[n].before_resync = disk(n).cache;
    }
}

void World::on(unsigned n, const Read& o) {
    done(n, {.ticket = o.ticket, .payload = disk(n).read(o.target)}, disk_time(n));
}
void World::on(unsigned n, const Digest& o) {
    done(n, {.ticket = o.ticket, .digest = disk(n).digest(o.target)}, disk_time(n));
}
void World::on(unsigned n, const List& o) {
    done(n, {.ticket = o.ticket, .targets = disk(n).list(o.fid)}, disk_time(n));
}
void World::on(unsigned n, const Purge& o) { disk(n).purge(o.through); }
void World::on(unsigned n, const EndResync&) { disk(n).end_resync(); }
void World::on(unsigned n, const Send& o) {
    note(n, "-> " + describe(o.message), 2);
    send(n, o.message);
}
void World::on(unsigned n, const CloseLink&) { close_stream(n); }
void World::on(unsigned n, const Note& o) {
    statistics.batches += o.text.find("leaves until") != std::string::npos ? 1 : 0;
    note(n, o.text);
}

void World::on(unsigned n, const BusSend& o) {
    if (!cut_[1][n] && !random_.chance(5)) {
        at(microseconds{50 + random_.below(random_.chance(5) ? 400'000 : 500)}, [this, n, message = o.message] {
            on_node(1 - n, [this, n, message] { step(1 - n, BusReceived{message}); });
        });
    }
}

void World::on(unsigned n, const ProbeVip& o) {
    const bool answers = serving(1 - n) && !paused(1 - n) && random_.chance(90);
    done(n, {.ticket = o.ticket, .yes = answers}, milliseconds{1 + random_.below(50)});
}

void World::on(unsigned n, const CommandDone& o) {
    note(n, std::string("command done: ") + (o.ok ? "" : "NO: ") + o.reason);
    statistics.refused += o.ok ? 0 : 1;
    Node& node = nodes_[n];
    if (node.commands == 0) {
        fail("a command is answered twice");
        return;
    }
    --node.commands;
    if (compares(o.command)) {
        node.verified = o.counts;
    }
}

void World::on(unsigned n, const ForeignKept&) {
    disk(n).manifest.reset();
    disk(n).configured_anew = false;
}

void World::on(unsigned n, const Stopped&) {
    at(nanoseconds{0}, [this, n, life = nodes_[n].life] {
        if (nodes_[n].life == life) {
            crash(n, false);
            disk(n).manifest = disk(n).cache;
        }
    });
}

/// A restart takes the role from nobody who serves and could have been met.
void World::check_start(unsigned n, const RoleChanged& change) {
    const Node& node = nodes_[n];
    const Node& other = nodes_[1 - n];
    if (change.reason == "the last holder starts" && node.told_of_peer && apart_at_ < node.started && other.serves &&
        alive(1 - n) && other.serves_since < node.started) {
        fail("I10: node" + std::to_string(n) + " starts alone beside one that serves and never stopped");
    }
}

void World::on(unsigned n, const RoleChanged& change) {
    static constexpr std::array<const char*, 5> text{"none", "waiting", "second", "prim", "alone"};
    Node& node = nodes_[n];
    note(n, std::string("role ") + text[static_cast<std::size_t>(change.role)] + " epoch " +
                std::to_string(counter(change.epoch)) + "/" + std::to_string(holder(change.epoch)) + ": " +
                change.reason);
    const bool serves = change.role == Role::prim || change.role == Role::alone;
    if (!serves) {
        ++node.clients;
        std::erase_if(requests_, [&](const auto& entry) { return entry.second.node == n; });
    }
    if (serves && !node.serves && options_.ack == Ack::commit) {
        forget_unsynced();
    }
    check_start(n, change);
    node.serves_since = node.serves ? node.serves_since : now_;
    node.serves = serves;
    const bool unheard = fully_cut_ || cut_[static_cast<std::size_t>(Path::bus)][n]; // by the other one
    if (change.role == Role::alone && node.left_behind && !options_.witness && unheard && !split_) {
        split_ = true; // one after the other, but a split all the same
        ++statistics.splits;
    }
    nodes_[1 - n].left_behind = nodes_[1 - n].left_behind || change.role == Role::alone;
}

} // namespace stead::mirror::sim
