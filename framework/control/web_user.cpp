// SPDX-License-Identifier: Apache-2.0
#include <stead/control/web_user.hpp>

#include <grp.h>
#include <pwd.h>

namespace stead::control {

Result<WebUser> web_user() {
    for (const char* name : {"stead-web", "nobody"}) {
        if (const passwd* found = ::getpwnam(name)) {
            WebUser user{name, "", found->pw_uid, found->pw_gid};
            if (const group* its_group = ::getgrgid(user.gid)) {
                user.group = its_group->gr_name;
            }
            return user;
        }
    }
    return Error{Errc::not_found, "/etc/passwd", "neither user stead-web nor nobody is there; stead-web needs one"};
}

} // namespace stead::control
