#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The models of how processes join, attach, talk, and give back what they had, checked by spin: whole, and broken on
# purpose, to see that the check would tell.

load model

@test "inbox: 2 producers" { holds inbox -DMESSAGES=3; }
@test "inbox: 2 producers, the head lags" { holds inbox -DMESSAGES=3 -DLAG=2; }
@test "inbox: 2 producers, 4 slots" { holds inbox -DMESSAGES=2 -DSLOTS=4 -DLAG=1; }
@test "inbox: 3 producers" { holds inbox -DPRODUCERS=3 -DMESSAGES=1; }
@test "inbox: 1 producer, a false hint" { holds inbox -DPRODUCERS=1 -DMESSAGES=6 -DLIAR; }
@test "inbox: 2 producers, a false hint" { holds inbox -DMESSAGES=1 -DLIAR; }
@test "inbox without the look at the slot before fails" { breaks inbox -DMESSAGES=1 -DLIAR -DNO_PREDECESSOR; }
@test "inbox without the check for room fails" { breaks inbox -DNO_FULL_CHECK; }
@test "inbox with the head published too early fails" { breaks inbox -DHEAD_EARLY; }
@test "inbox with a store for the compare-and-swap fails" { breaks inbox -DBLIND_STORE; }
@test "inbox with tickets fails" { breaks inbox -DTICKET; }

@test "ring: 2 slots" { holds ring; }
@test "ring: 3 slots" { holds ring -DSLOTS=3 -DMESSAGES=12; }
@test "ring: 4 slots, the head lags" { holds ring -DSLOTS=4 -DLAG=2 -DMESSAGES=12; }
@test "ring with the word before the payload fails" { breaks ring -DWORD_FIRST; }
@test "ring without the check for room fails" { breaks ring -DNO_FULL_CHECK; }
@test "ring with the head published too early fails" { breaks ring -DHEAD_EARLY; }
@test "ring without numbers fails" { breaks ring -DNO_NUMBER; }
@test "ring: 4 slots, 3 buffers" { holds ring -DSLOTS=4 -DLAG=3 -DBUFFERS=3 -DMESSAGES=12; }
@test "ring that was not offered fails" { breaks ring -DUNANNOUNCED; }
@test "ring without the check for a free buffer fails" { breaks ring -DSLOTS=4 -DNO_BUFFER_CHECK; }

@test "attach: 2 attachers, 2 reapers" { holds attach; }
@test "attach: 2 attachers that come again" { holds attach -DREAPERS=1 -DTURNS=2; }
@test "attach: 2 reapers that come again" { holds attach -DATTACHERS=1 -DTURNS=2; }
@test "attach: 3 attachers" { holds attach -DATTACHERS=3 -DREAPERS=1; }
@test "attach that looks before it announces fails" { breaks attach -DLOOK_FIRST; }
@test "attach against a reaper that does not look fails" { breaks attach -DBLIND_REAP; }
@test "attach where silence counts as death fails" { breaks attach -DSILENCE; }
@test "attach with a reaper of any generation fails" { breaks attach -DANY_GENERATION; }

@test "join: 2 joiners, nothing formatted yet" { holds join; }
@test "join: 2 joiners, 2 entries" { holds join -DENTRIES=2; }
@test "join: 3 joiners" { holds join -DJOINERS=3 -DFORMATTED; }
@test "join with the magic first fails" { breaks join -DMAGIC_FIRST; }
@test "join with the mark last fails" { breaks join -DMARK_LAST; }
@test "join with one look at the mark fails" { breaks join -DMARK_ONCE; }
@test "join with words stored by several formatters fails" { breaks join -DBLIND_FORMAT; }
@test "join with a store for the compare-and-swap of a claim fails" { breaks join -DBLIND_CLAIM; }
@test "join without the joiner's pid in the claim fails" { breaks join -DNO_PID; }
@test "join with a joiner judged by its entry fails" { breaks join -DENTRY_PID; }
@test "join that takes blocks before it has said who it is fails" { breaks join -DBLOCKS_FIRST; }
@test "join that is live before it is complete fails" { breaks join -DLIVE_FIRST; }
@test "join with one look at the claim fails" { breaks join -DJOINERS=3 -DFORMATTED -DONE_LOOK; }

@test "reclaim: 2 owners at once" { holds reclaim -DENTRIES=2 -DOWNERS=2 -DBLOCKS=3 -DREAPERS=1; }
@test "reclaim of any generation fails" { breaks reclaim -DANY_GENERATION; }
@test "reclaim without generations fails" { breaks reclaim -DNO_GENERATION; }
@test "reclaim of the entry before its blocks fails" { breaks reclaim -DFREE_FIRST; }
@test "reclaim with a store for the compare-and-swap of a block fails" { breaks reclaim -DBLIND_STORE; }
@test "reclaim with a store for the compare-and-swap of a claim fails" { breaks reclaim -DBLIND_FREE; }
@test "reclaim where silence counts as death fails" { breaks reclaim -DSILENCE; }

@test "idle: 2 rings" { proves ltl idle; }
@test "idle: 3 rings, 2 of them polled" { proves ltl idle -DRINGS=3 -DPOLLED=2 -DMESSAGES=1; }
@test "idle where idle rings get no turn fails" { hangs ltl idle -DNO_TURNS; }
@test "idle where one idle ring gets all turns fails" { hangs ltl idle -DRINGS=3 -DSTUCK_TURN; }
@test "idle where idle rings count for nothing fails" { hangs ltl idle -DBLIND_EMPTY; }
@test "idle with a flag that does not count fails" { breaks idle -DONE_BIT; }
@test "idle with a doorbell each time fails" { breaks idle -DDOORBELL_EACH_TIME; }

@test "pool: 2 cells, 2 receivers" { holds pool -DMESSAGES=6; }
@test "pool: 1 cell, 2 receivers" { holds pool -DCELLS=1 -DMESSAGES=6; }
@test "pool: 3 cells" { holds pool -DCELLS=3 -DMESSAGES=5; }
@test "pool: the sender goes on" { proves progress pool; }
@test "pool with cells released before they are read fails" { breaks pool -DHOME_EARLY; }
@test "pool with cells marked out behind their publication fails" { breaks pool -DOUT_LATE; }
@test "pool where silence counts as death fails" { breaks pool -DSILENCE; }
@test "pool that leaves cells with the dead fails" { breaks pool -DNO_RECALL; }
@test "pool that takes cells that are out fails" { breaks pool -DBLIND_TAKE; }
@test "pool that takes cells back from the living fails" { breaks pool -DRECALL_ALL; }
@test "pool that leaves its only cell with the dead hangs" { hangs progress pool -DCELLS=1 -DNO_RECALL; }
