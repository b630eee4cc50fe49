// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace stead::host {

class Registry;

/// From here on a crash of this process says on stderr, before it ends it as ever, which plugin is the innermost on the
/// stack of the thread that crashes. Call it once, when the plugins are loaded. Where a debugger or a sanitizer has
/// taken these signals already, they are left to it.
void tell_crashes(const Registry& registry);

} // namespace stead::host
