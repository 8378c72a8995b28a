#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# Models of how processes join, attach, communicate and free what they held, checked by spin. Each model must hold, and
# each of its broken variants must fail, which shows that the check can find such a fault.

load model

@test "model of inbox: 2 producers" { holds inbox -DMESSAGES=3; }
@test "model of inbox: 2 producers, the head lags" { holds inbox -DMESSAGES=3 -DLAG=2; }
@test "model of inbox: 2 producers, 4 slots" { holds inbox -DMESSAGES=2 -DSLOTS=4 -DLAG=1; }
@test "model of inbox: 3 producers" { holds inbox -DPRODUCERS=3 -DMESSAGES=1; }
@test "model of inbox: 1 producer, a false hint" { holds inbox -DPRODUCERS=1 -DMESSAGES=6 -DLIAR; }
@test "model of inbox: 2 producers, a false hint" { holds inbox -DMESSAGES=1 -DLIAR; }
@test "broken model of inbox: no check of the slot before fails" { breaks inbox -DMESSAGES=1 -DLIAR -DNO_PREDECESSOR; }
@test "broken model of inbox: no check for room fails" { breaks inbox -DNO_FULL_CHECK; }
@test "broken model of inbox: head published too early fails" { breaks inbox -DHEAD_EARLY; }
@test "broken model of inbox: store instead of compare-and-swap fails" { breaks inbox -DBLIND_STORE; }
@test "broken model of inbox: tickets fail" { breaks inbox -DTICKET; }

@test "model of ring: 2 slots" { holds ring; }
@test "model of ring: 3 slots" { holds ring -DSLOTS=3 -DMESSAGES=12; }
@test "model of ring: 4 slots, the head lags" { holds ring -DSLOTS=4 -DLAG=2 -DMESSAGES=12; }
@test "broken model of ring: word before the payload fails" { breaks ring -DWORD_FIRST; }
@test "broken model of ring: no check for room fails" { breaks ring -DNO_FULL_CHECK; }
@test "broken model of ring: head published too early fails" { breaks ring -DHEAD_EARLY; }
@test "broken model of ring: no sequence numbers fails" { breaks ring -DNO_NUMBER; }
@test "model of ring: 4 slots, 3 buffers" { holds ring -DSLOTS=4 -DLAG=3 -DBUFFERS=3 -DMESSAGES=12; }
@test "broken model of ring: ring that was not announced fails" { breaks ring -DUNANNOUNCED; }
@test "broken model of ring: no check for a free buffer fails" { breaks ring -DSLOTS=4 -DNO_BUFFER_CHECK; }

@test "model of attach: 2 attachers, 2 reapers" { holds attach; }
@test "model of attach: 2 attachers that come again" { holds attach -DREAPERS=1 -DROUNDS=2; }
@test "model of attach: 2 reapers that come again" { holds attach -DATTACHERS=1 -DROUNDS=2; }
@test "model of attach: 3 attachers" { holds attach -DATTACHERS=3 -DREAPERS=1; }
@test "broken model of attach: check of the claim before the bit is set fails" { breaks attach -DCHECK_FIRST; }
@test "broken model of attach: reaper that does not check attachments fails" { breaks attach -DBLIND_REAP; }
@test "broken model of attach: silence taken for death fails" { breaks attach -DSILENCE; }
@test "broken model of attach: reaper of any generation fails" { breaks attach -DANY_GENERATION; }

@test "model of join: 2 joiners, nothing formatted yet" { holds join; }
@test "model of join: 2 joiners, 2 entries" { holds join -DENTRIES=2; }
@test "model of join: 3 joiners" { holds join -DJOINERS=3 -DFORMATTED; }
@test "broken model of join: magic first fails" { breaks join -DMAGIC_FIRST; }
@test "broken model of join: mark last fails" { breaks join -DMARK_LAST; }
@test "broken model of join: mark checked only once fails" { breaks join -DMARK_ONCE; }
@test "broken model of join: words stored instead of swapped by formatters fail" { breaks join -DBLIND_FORMAT; }
@test "broken model of join: claim stored instead of swapped fails" { breaks join -DBLIND_CLAIM; }
@test "broken model of join: no pid of the joiner in the claim fails" { breaks join -DNO_PID; }
@test "broken model of join: joiner judged by its entry fails" { breaks join -DENTRY_PID; }
@test "broken model of join: blocks allocated before the entry names their owner fail" { breaks join -DBLOCKS_FIRST; }
@test "broken model of join: LIVE before the entry is complete fails" { breaks join -DLIVE_FIRST; }
@test "broken model of join: claim checked only once fails" { breaks join -DJOINERS=3 -DFORMATTED -DONE_CHECK; }

@test "model of reclaim: 2 owners at once" { holds reclaim -DENTRIES=2 -DOWNERS=2 -DBLOCKS=3 -DREAPERS=1; }
@test "broken model of reclaim: reaper of any generation fails" { breaks reclaim -DANY_GENERATION; }
@test "broken model of reclaim: no generations fails" { breaks reclaim -DNO_GENERATION; }
@test "broken model of reclaim: entry freed before its blocks fails" { breaks reclaim -DFREE_FIRST; }
@test "broken model of reclaim: block stored instead of swapped fails" { breaks reclaim -DBLIND_STORE; }
@test "broken model of reclaim: claim stored instead of swapped fails" { breaks reclaim -DBLIND_FREE; }
@test "broken model of reclaim: silence taken for death fails" { breaks reclaim -DSILENCE; }

@test "model of idle rings: 2 rings" { proves ltl idle; }
@test "model of idle rings: 3 rings, 2 of them polled" { proves ltl idle -DRINGS=3 -DPOLLED=2 -DMESSAGES=1; }
@test "broken model of idle rings: idle rings that are never polled fail" { hangs ltl idle -DNO_IDLE_POLL; }
@test "broken model of idle rings: only one idle ring polled fails" { hangs ltl idle -DRINGS=3 -DSTUCK_POLL; }
@test "broken model of idle rings: idle rings ignored when all seems empty fails" { hangs ltl idle -DBLIND_EMPTY; }
@test "broken model of idle rings: flag instead of a counter fails" { breaks idle -DONE_BIT; }
@test "broken model of idle rings: doorbell for each record fails" { breaks idle -DDOORBELL_EACH_TIME; }

@test "model of pool: 2 cells, 2 receivers" { holds pool -DMESSAGES=6; }
@test "model of pool: 1 cell, 2 receivers" { holds pool -DCELLS=1 -DMESSAGES=6; }
@test "model of pool: 3 cells" { holds pool -DCELLS=3 -DMESSAGES=5; }
@test "model of pool: the sender always makes progress" { proves progress pool; }
@test "broken model of pool: cells released before they are read fail" { breaks pool -DFREE_EARLY; }
@test "broken model of pool: cells marked as in flight after they are published fail" { breaks pool -DIN_FLIGHT_LATE; }
@test "broken model of pool: silence taken for death fails" { breaks pool -DSILENCE; }
@test "broken model of pool: cells of the dead not reclaimed fails" { breaks pool -DNO_RECLAIM; }
@test "broken model of pool: cells allocated while in flight fail" { breaks pool -DBLIND_ALLOC; }
@test "broken model of pool: cells of the living reclaimed fails" { breaks pool -DRECLAIM_ALL; }
@test "broken model of pool: only cell not reclaimed from the dead hangs" { hangs progress pool -DCELLS=1 -DNO_RECLAIM; }
