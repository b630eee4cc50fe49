# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts, as modules of the classic product do.
services() {
    "$SAFEBIN/xpathGet" "$SAFEUSERCONF/safeconf.xml" "/safe/service/user/var[@name='SERVICES']/@value"
}
reversed() {
    r=; for s in "$@"; do r="$s $r"; done; echo "$r"
}
