/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock and version protocol of bpf/table.h: one pair of buckets with a slot each, two
 * writers that insert, remove, change, note a state bit and remove what they found, and a
 * reader. Every access to shared memory is a step of its own, in program order (what keeps that
 * order on arm64 is argued in table.h and table_memory.h). Checked exhaustively by spin; see
 * check_model.sh, which also breaks each rule in turn and expects spin to notice.
 *
 * Keys 1 and 2 have bucket 0 for their first, key 3 has bucket 1. All have the same last word
 * but for version and state, so that a mixed key can only be told by its other word.
 */
#ifndef WRITES
#define WRITES 1 /* operations of a writer */
#endif

#define KEYS 4 /* and 0: none */
#define FIRST(k) ((k) == 3 -> 1 : 0)
#define OTHER(b) (1 - (b))
#define ANSWER(k, gen) ((k) * 16 + (gen))

bit lock[2];
byte overflow[2];
bit foreign[2];
bit tag[2];
byte word[2];	 /* the key but for its last word */
bit tail[2];	 /* the key's last word: 1, or 0 in a free slot ... */
byte version[2]; /* ... and beside it, in the same 64 bits: odd while the answer changes */
bit seen[2];	 /* ... and the state */
byte answer0[2], answer1[2];

/* What no program sees. */
byte entries[KEYS]; /* entries with this key, from the last store of the fill to the clear */
bit visible[KEYS];  /* an insert of it has ended, no removal has begun */
byte vanished[KEYS];  /* how often it has stopped being visible */
byte generation[2]; /* of the slot's entry, another for each entry */
byte generations;

inline unlock(b)
{
	lock[b] = 0
}

/* FILL, with the lock: the entry matches no key until the last word is stored. */
inline fill(b, k)
{
	d_step { generations++; generation[b] = generations };
	answer0[b] = ANSWER(k, generation[b]);
	answer1[b] = ANSWER(k, generation[b]);
	word[b] = k;
	d_step { tail[b] = 1; seen[b] = 0; entries[k]++; assert(entries[k] == 1) };
	d_step { tag[b] = 1; visible[k] = 1 }
}

inline clear(b)
{
	d_step { tag[b] = 0; visible[word[b]] = 0; vanished[word[b]]++ };
	d_step {
		tail[b] = 0; seen[b] = 0; entries[word[b]]--;
#ifndef NO_VERSION
		version[b] = version[b] + 2
#endif
	}
}

inline evict(b)
{
	if
	:: foreign[b] ->
		foreign[b] = 0;
#ifdef EARLY_ACCOUNT
		overflow[OTHER(b)]--;
		clear(b)
#else
		clear(b);
		overflow[OTHER(b)]--
#endif
	:: else -> clear(b)
	fi
}

/* Is the key in this bucket? Under its lock. */
#define HOLDS(b, k) (tag[b] && tail[b] && word[b] == (k))

inline put(b, k)
{
	if
	:: b != FIRST(k) ->
#ifndef NO_ACCOUNT
		overflow[OTHER(b)]++;
#endif
		foreign[b] = 1
	:: else
	fi;
	fill(b, k)
}

inline insert(k)
{
	f = FIRST(k);
	if
	:: atomic { lock[f] == 0 -> lock[f] = 1 };
	:: lock[f] != 0 -> goto done /* TABLE_BUSY */
	fi;
	if
	:: HOLDS(f, k) -> unlock(f); goto done /* TABLE_PRESENT */
	:: else
	fi;
	if
	:: overflow[f] == 0 && !tag[f] -> fill(f, k); unlock(f); goto done
	:: else
	fi;
	unlock(f);
#ifdef ONE_LOCK
	atomic { lock[OTHER(f)] == 0 -> lock[OTHER(f)] = 1 };
#else
	if
	:: atomic { lock[0] == 0 -> lock[0] = 1 };
	:: lock[0] != 0 -> goto done
	fi;
	if
	:: atomic { lock[1] == 0 -> lock[1] = 1 };
	:: lock[1] != 0 -> unlock(0); goto done
	fi;
#endif
	if
	:: HOLDS(f, k) || HOLDS(OTHER(f), k)
	:: else ->
		if
		:: !tag[f] -> put(f, k)
		:: tag[f] && !tag[OTHER(f)] -> put(OTHER(f), k)
		/* Both full: either may hold what is given up. */
		:: tag[f] && tag[OTHER(f)] -> evict(f); put(f, k)
		:: tag[f] && tag[OTHER(f)] -> evict(OTHER(f)); put(OTHER(f), k)
		fi
	fi;
#ifndef ONE_LOCK
	unlock(f);
#endif
	unlock(OTHER(f))
}

/* Without a lock; b: where the key is, 2: nowhere. */
inline search(k)
{
	f = FIRST(k);
	b = 2;
	if
	:: tag[f] ->
		if
		:: tail[f] ->
			if
			:: word[f] == k -> b = f
			:: else
			fi
		:: else
		fi
	:: else
	fi;
	if
	:: b == 2 ->
		if
		:: overflow[f] != 0 ->
			if
			:: tag[OTHER(f)] ->
				if
				:: tail[OTHER(f)] ->
					if
					:: word[OTHER(f)] == k -> b = OTHER(f)
					:: else
					fi
				:: else
				fi
			:: else
			fi
		:: else
		fi
	:: else
	fi
}

inline remove(k)
{
	search(k);
	if
	:: b == 2 -> goto done
	:: else
	fi;
	if
	:: atomic { lock[b] == 0 -> lock[b] = 1 };
	:: lock[b] != 0 -> goto done
	fi;
	if
	:: HOLDS(b, k) -> evict(b)
	:: else
	fi;
	unlock(b)
}

inline change(k)
{
	search(k);
	if
	:: b == 2 -> goto done
	:: else
	fi;
	if
	:: atomic { lock[b] == 0 -> lock[b] = 1 };
	:: lock[b] != 0 -> goto done
	fi;
	if
	:: HOLDS(b, k) ->
#ifndef NO_ODD
		version[b]++;
#endif
		d_step { generations++; generation[b] = generations };
		answer0[b] = ANSWER(k, generation[b]);
		answer1[b] = ANSWER(k, generation[b]);
#ifndef NO_ODD
		version[b]++
#endif
	:: else
	fi;
	unlock(b)
}

/* The entry at b, if it is the key's: its version, before its other word. */
inline match(k)
{
	d_step { found = tail[b]; v = version[b]; s = seen[b] };
	if
	:: found ->
		if
		:: word[b] == k
		:: else -> found = 0
		fi
	:: else
	fi
}

/* A state bit, without the lock: never onto another's entry. */
inline note(k)
{
	search(k);
	if
	:: b == 2 -> goto done
	:: else
	fi;
	match(k);
	if
	:: found ->
		d_step {
			if
			:: tail[b] && version[b] == v && seen[b] == s ->
				assert(word[b] == k);
				seen[b] = 1
			:: else
			fi
		}
	:: else
	fi
}

/* Finds, and removes only what was found. */
inline remove_found(k)
{
	search(k);
	if
	:: b == 2 -> goto done
	:: else
	fi;
	d_step { found = tail[b]; v = version[b]; g = generation[b] };
	if
	:: !found || v % 2 -> goto done
	:: else
	fi;
	if
	:: word[b] == k
	:: else -> goto done
	fi;
	if
	:: atomic { lock[b] == 0 -> lock[b] = 1 };
	:: lock[b] != 0 -> goto done
	fi;
	if
#ifdef ANY_VERSION
	:: HOLDS(b, k) ->
#else
	:: HOLDS(b, k) && version[b] == v ->
#endif
		assert(generation[b] == g);
		evict(b)
	:: else
	fi;
	unlock(b)
}

proctype writer()
{
	byte b, f, v, g, n, k;
	bit found, s;

	do
	:: n == WRITES -> break
	:: n < WRITES ->
		n++;
		if
		:: k = 1
		:: k = 2
		:: k = 3
		fi;
		if
		:: insert(k)
		:: remove(k)
		:: change(k)
		:: note(k)
		:: remove_found(k)
		fi;
done:		b = 0; f = 0; v = 0; g = 0; found = 0; s = 0; k = 0
	od
}

/* Each copy is whole, the key's, and of one moment; a key that is there all the time is found. */
proctype reader()
{
	byte b, f, v, k, tries, first, second, before;
	bit found, s, there;

	if
	:: k = 1
	:: k = 2
	:: k = 3
	fi;
	d_step { there = visible[k]; before = vanished[k] };
	search(k);
	if
	:: b == 2 -> goto absent
	:: else
	fi;
	do
	:: tries == 2 -> goto done /* TABLE_BUSY */
	:: else ->
		tries++;
		match(k);
		if
		:: !found -> goto absent
		:: found && v % 2
		:: else ->
			first = answer0[b];
			second = answer1[b];
			if
			:: version[b] == v ->
				assert(first == second && first / 16 == k);
				goto done
			:: else
			fi
		fi
	od;
absent:	assert(!there || vanished[k] != before);
done:	skip
}

/* How it begins: empty; one key; two, so that one is away from its first bucket; or full. */
inline begin()
{
	if
	:: skip
	:: fill(0, 1)
	:: fill(0, 1); put(1, 2)
	:: fill(0, 1); fill(1, 3)
	:: fill(1, 3); put(0, 2)
	fi
}

#define AWAY(b) (tag[b] && FIRST(word[b]) != (b))

init {
	atomic {
		begin();
		run writer();
		run writer();
		run reader()
	};
	_nr_pr == 1;
	assert(lock[0] == 0 && lock[1] == 0);
	assert(foreign[0] == AWAY(0) && foreign[1] == AWAY(1));
	assert(overflow[0] == AWAY(1) && overflow[1] == AWAY(0));
	assert(version[0] % 2 == 0 && version[1] % 2 == 0)
}
