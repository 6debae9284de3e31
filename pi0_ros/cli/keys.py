"""Keys of a policy server and of the robots that may ask it.

    pi0 keys create keys/ left_arm right_arm

writes keys/server, which stays on the GPU machine (`pi0 serve --keys keys/server`), and one folder for each robot,
which is copied there and nowhere else (`keys:=left_arm`). Called again with other names it adds robots; a running
server knows them at once. Remove keys/server/clients/NAME.key, and NAME may not connect any more.
"""

from __future__ import annotations

from pi0_ros.cli import keys_create

ACTIONS = {"create": (keys_create, "write the keys of a server and of robots")}
