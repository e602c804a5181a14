-- What happens in Dovecot's mailboxes, written down for postbell: one line for each transaction.
--
-- Loaded once for each mail user, by mail_lua and by push_notification_lua together. Each transaction that was
-- committed becomes one line of JSON in <postbell_spool>/<uid>.ndjson, put there by a single write. Where more can be
-- known, a named event, postbell_transaction, lets Dovecot's own exporter say what Lua isn't told: the reason, the
-- command, the envelope.
--
-- This runs inside the mail server, so:
--   * nothing here may fail a login or a command: each hook runs in pcall, and a spool that can't be written to is one
--     line in Dovecot's log and a number missing from the sequence;
--   * nothing is asked of a mailbox, and nothing said to the exporter, that events don't need: a changed flag is one
--     short write, and where the hub says, in <postbell_spool>/demand, that nobody wants to hear of flags, Dovecot
--     doesn't call the script for them;
--   * no reference to a user outlives its hook, because Dovecot ends a process that holds one.
--
-- Settings, in plugin { }:
--   postbell_spool      the folder; without it nothing is written
--   postbell_spool_max  octets a spool file may reach; 268435456 (256 MiB) where unset
--   postbell_demand     yes: <postbell_spool>/demand is read. To be set where the hub has made it, or no user can put
--                       anything into the folder: a pipe of that name would be waited for

local concat, sort = table.concat, table.sort
local byte, find, format, gmatch, gsub = string.byte, string.find, string.format, string.gmatch, string.gsub
local match, sub = string.match, string.sub
local now, open, pcall, tointeger, utf8_length = os.time, io.open, pcall, math.tointeger, utf8.len
local globals = _G

local SPOOL_MAX = 256 * 1024 * 1024
-- The reader takes lines of 1 MiB; a mailbox's name and the status find room in what is left.
local EVENTS_MAX = 960 * 1024
-- Ranges of one event's UID set: at most 22 octets each, so that no event is long.
local RANGES_MAX = 4096
-- Mailboxes whose UIDVALIDITY is remembered; few, because all of it is looked at after each transaction.
local KNOWN_MAX = 64
-- Seconds between two complaints of one session.
local COMPLAIN_EVERY = 60
-- What a login means something for; everything else only works on mailboxes.
local SESSIONS = { imap = true, pop3 = true, sieve = true, managesieve = true, submission = true }
-- How what the hub wants begins and ends; anything else counts as everything.
local DEMAND_BEGINS, DEMAND_ENDS = "postbell-demand 1\n", "\nend\n"
-- It has no more octets: what fits into one read of Lua's own is read without a buffer made for it.
local DEMAND_MAX = 1024
-- In one transaction a message comes, loses flags, gets flags, and goes.
local RANKS = { new = 1, append = 1, clear = 2, set = 3, expunge = 4 }

-- What every line of this run says; made when first needed.
local run, pid, middle, path, demand_path, spool_max, is_session, has_ports
local described_user, described_session
local seq, is_torn, complained_at = 0, false, nil
-- UIDVALIDITY of mailboxes seen in this run: Dovecot doesn't tell it of a mailbox that is gone.
local known_vals, known_count = {}, 0
-- What the hub said last that it wants, and whether it has no use for flags.
local demand_said, is_unwanted = nil, false
-- Whether Dovecot has looked for hooks since one ran, and what was said then of flags: that it finds no hooks for them.
local has_looked, is_deaf = false, false

---------------------------------------------------------------- JSON

local function escape(octet)
  if octet == '"' or octet == "\\" then return "\\" .. octet end
  return format("\\u%04x", byte(octet))
end

-- With U+FFFD for each octet that isn't UTF-8.
local function repaired(text)
  local parts, at = {}, 1
  while at <= #text do
    local ok, bad = utf8_length(text, at)
    if ok then break end
    parts[#parts + 1] = sub(text, at, bad - 1)
    parts[#parts + 1] = "\u{FFFD}"
    at = bad + 1
  end
  parts[#parts + 1] = sub(text, at)
  return concat(parts)
end

local function json(text)
  if not utf8_length(text) then text = repaired(text) end
  if find(text, '[\0-\31\127"\\]') then text = gsub(text, '[\0-\31\127"\\]', escape) end
  return '"' .. text .. '"'
end

local function text_member(out, name, value)
  if value and value ~= "" then out[#out + 1] = ',"' .. name .. '":' .. json(value) end
end

local function number_member(out, name, value)
  value = tointeger(tonumber(value))
  if value and value > 0 then out[#out + 1] = format(',"%s":%d', name, value) end
end

---------------------------------------------------------------- the spool

local function complain(text)
  local time = now()
  if complained_at and time - complained_at < COMPLAIN_EVERY then return end
  complained_at = time
  dovecot.i_error("postbell: " .. text)
end

local function random_run()
  local file = open("/dev/urandom", "rb")
  if file then
    file:setvbuf("no")
    local octets = file:read(16)
    file:close()
    if octets and #octets == 16 then
      return (gsub(octets, ".", function(octet) return format("%02x", byte(octet)) end))
    end
  end
  -- In a chroot without devices: Lua's own generator, which no two processes start alike.
  return format("%016x%016x", math.random(0), math.random(0))
end

-- Puts one line at the end of the spool file, with one write. The file is opened anew each time, because its reader may
-- have moved it away.
local function put(line)
  local file, why = open(path, "a")
  if not file then return complain("can't open the spool: " .. tostring(why)) end
  -- Unbuffered, so that a line is one write however long it is.
  file:setvbuf("no")
  local size = file:seek("end")
  if not size or size > spool_max then
    file:close()
    return complain(format("the spool is full: %s has %d octets, and nobody fetches them", path, size or 0))
  end
  -- A full disk may have cut the line before. Whose it wasn't needn't look: the reader tells the two apart.
  if is_torn then line = "\n" .. line end
  local written
  written, why = file:write(line)
  file:close()
  is_torn = not written
  if not written then complain("can't write to the spool: " .. path .. ": " .. tostring(why)) end
end

-- Finds out, once for each session, what all its lines say.
local function describe(user)
  described_user, described_session, path = user.username, user.session_id, nil
  local spool = user:plugin_getenv("postbell_spool")
  if not spool or spool == "" then return complain("the setting postbell_spool is missing") end
  local _, values = pcall(user.var_expand, user, "%{uid}\n%{pid}\n%{rip}\n%{lip}\n%{auth_user}\n"
    .. "%{userdb:postbell_rport}\n%{userdb:postbell_lport}\n%{userdb:postbell_mech}\n%{userdb:postbell_secured}\n")
  local uid, process, rip, lip, auth, rport, lport, mech, secured =
    match(values, "^(%d+)\n(%d+)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n")
  pid = tointeger(tonumber(process)) or 0
  is_session, has_ports = SESSIONS[user.service], lport and lport ~= ""
  uid = uid or format("%d", user.uid)
  local out = { ',"user":', json(user.username), ',"uid":', uid }
  text_member(out, "service", user.service)
  text_member(out, "session", user.session_id)
  text_member(out, "rip", rip)
  number_member(out, "rport", rport)
  text_member(out, "lip", lip)
  number_member(out, "lport", lport)
  if auth ~= user.username then text_member(out, "auth", auth) end
  text_member(out, "mech", mech)
  text_member(out, "secured", secured)
  if user.session_restored then out[#out + 1] = ',"restored":true' end
  middle = concat(out)
  path = spool .. "/" .. uid .. ".ndjson"
  demand_path = user:plugin_getenv("postbell_demand") == "yes" and spool .. "/demand" or nil
  spool_max = tonumber(user:plugin_getenv("postbell_spool_max")) or SPOOL_MAX
end

-- Costs the mail process more than the line does, because another process must wake for it.
local function announce()
  dovecot.event():set_name("postbell_transaction"):add_str("postbell_run", run):add_int("postbell_seq", seq)
    :log_debug("postbell: transaction")
end

-- Writes one line. Its number is used up whether or not that works: a missing number is how the reader learns of it.
local function tell(events, more)
  if not path then return end
  run = run or random_run()
  seq = seq + 1
  put(format('{"v":1,"run":"%s","seq":%d,"pid":%d,"time":%d%s,"events":[%s]%s}\n', run, seq, pid, now(), middle, events,
    more or ""))
end

---------------------------------------------------------------- what is wanted

-- Whether nobody wants to hear of flags, as it is now: of none of them, as who wants some is told by the state of the
-- mailbox when others were missed. Read anew each time: whoever is told that they will hear of everything from now on was
-- told after the file had its name.
--
-- Of flags alone: sessions, copies, quotas and what is in a mailbox the hub knows by the other lines.
local function flags_unwanted()
  local file = path and demand_path and open(demand_path, "rb")
  if not file then return false end
  file:setvbuf("no")
  local said = file:read(DEMAND_MAX)
  file:close()
  if said == demand_said then return is_unwanted end
  demand_said, is_unwanted = said, false
  if said and sub(said, 1, #DEMAND_BEGINS) == DEMAND_BEGINS and sub(said, -#DEMAND_ENDS) == DEMAND_ENDS then
    local function wants(event) return find(said, "\n" .. event .. "\n", 1, true) ~= nil end
    is_unwanted = not (wants("FlagsSet") or wants("FlagsClear") or wants("MessageRead") or wants("MessageTrash"))
  end
  return is_unwanted
end

-- Whether hooks for flags are hidden from Dovecot, which looks for all hooks when a transaction begins and for the last
-- when it ends, each time before it calls that hook. The first look tells for the others.
local function hides_flags()
  if not has_looked then
    has_looked = true
    local ok, unwanted = pcall(flags_unwanted)
    is_deaf = ok and unwanted
  end
  return is_deaf
end

---------------------------------------------------------------- transactions

-- The flags and keywords of an event, joined by what no flag may hold; "" for none.
local function names_of(event)
  local flags, keywords = event.flags, event.keywords
  local first = flags and flags[1]
  if not (keywords and keywords[1]) then
    if not first then return "" end
    if not flags[2] then return first == "\\Recent" and "" or first end
  end
  local names = {}
  for _, list in ipairs({ flags or {}, keywords or {} }) do
    for _, name in ipairs(list) do
      if name ~= "\\Recent" then names[#names + 1] = name end
    end
  end
  return concat(names, "\0")
end

local function names_json(names)
  if names == "" then return "[]" end
  local out = {}
  for name in gmatch(names, "[^\0]+") do out[#out + 1] = json(name) end
  return "[" .. concat(out, ",") .. "]"
end

-- Adds a message to the event it shares with others of this transaction.
local function add(transaction, act, event)
  local names = act == "expunge" and "" or names_of(event)
  -- Dovecot tells of flags set and cleared where there are none, too.
  if names == "" and (act == "set" or act == "clear") then return end
  local box = event.mailbox
  local last = transaction.last
  if not (last and last.act == act and last.names == names and last.box == box) then
    local key = act .. "\0" .. names .. "\0\0" .. box
    last = transaction[key]
    if not last then
      last = { act = act, names = names, box = box, val = event.uid_validity, count = 0, highest = 0, sorted = true }
      transaction[key] = last
      transaction[#transaction + 1] = last
    end
    transaction.last = last
  end
  local uid, count = event.uid | 0, last.count + 1
  last[count], last.count = uid, count
  if uid > last.highest then last.highest = uid else last.sorted = false end
end

local function remember(box, val)
  if not val or known_vals[box] == val then return end
  if known_vals[box] == nil then
    if known_count == KNOWN_MAX then known_vals, known_count = {}, 0 end
    known_count = known_count + 1
  end
  known_vals[box] = val | 0
end

-- The UIDs as sets in canonical form, in parts that no line is too short for.
local function uid_sets(group)
  if not group.sorted then sort(group) end
  local sets, ranges = {}, {}
  local from, to = group[1], group[1]
  for at = 2, group.count + 1 do
    local uid = group[at]
    if uid ~= to then
      if not uid or uid ~= to + 1 then
        ranges[#ranges + 1] = from == to and format("%d", from) or format("%d:%d", from, to)
        if #ranges == RANGES_MAX then
          sets[#sets + 1] = concat(ranges, ",")
          ranges = {}
        end
        from = uid
      end
      to = uid
    end
  end
  if ranges[1] then sets[#sets + 1] = concat(ranges, ",") end
  return sets
end

local function put_group(out, group)
  local begun = '{"e":"' .. group.act .. '","box":' .. json(group.box)
  if group.val and group.val > 0 then begun = begun .. format(',"val":%d', group.val) end
  local ended = group.act == "expunge" and '"}' or '","flags":' .. names_json(group.names) .. "}"
  for _, uids in ipairs(uid_sets(group)) do out[#out + 1] = begun .. ',"uids":"' .. uids .. ended end
end

-- How a mailbox stands now: a member for the line, and its UIDVALIDITY. Nothing where it can't be told.
--
-- What was added stands in the index already. Opened, the mailbox is not looked through first, which would read all of a
-- Maildir for each message delivered. What was expunged leaves the index by a look only.
local function status_of(user, box, is_indexed)
  local storage = dovecot.storage
  -- Who may insert may not always look, and who made a mailbox in a shared one has no rights on it yet.
  local ok, mailbox = pcall(user.mailbox, user, box, storage.MAILBOX_FLAG_READONLY | storage.MAILBOX_FLAG_IGNORE_ACLS)
  if not ok then return nil end
  local status
  if is_indexed then pcall(mailbox.open, mailbox) end
  ok, status = pcall(mailbox.status, mailbox, storage.STATUS_MESSAGES | storage.STATUS_UIDNEXT
    | storage.STATUS_UIDVALIDITY | storage.STATUS_HIGHESTMODSEQ)
  mailbox:free()
  if not ok then return nil end
  local val = status.uidvalidity | 0
  return format('%s:{"val":%d,"messages":%d,"uidnext":%d,"modseq":%d}', json(box), val, status.messages | 0,
    status.uidnext | 0, status.highest_modseq | 0), val
end

-- Writes down what the transaction gathered; more than one line holds goes into several.
local function commit(transaction)
  local user = transaction.user
  local out, status = {}, nil
  -- A session's flags, names and subscriptions are all told here; what other services do has reasons.
  local more = not is_session
  if transaction.box then
    local act, box, old, val = transaction.act, transaction.box, transaction.old, nil
    more = more or act == "create"
    if act == "create" or act == "rename" then
      -- Its children have new names, too.
      if old then known_vals, known_count = {}, 0 end
      status, val = status_of(user, box)
      remember(box, val)
    elseif act == "delete" then
      val, known_vals[box] = known_vals[box], nil
    end
    local event = '{"e":"' .. act .. '","box":' .. json(box)
    if old then event = event .. ',"old":' .. json(old) end
    if val and val > 0 then event = event .. format(',"val":%d', val) end
    out[1] = event .. "}"
  end
  if transaction[1] then
    if transaction[2] then
      for at = 1, #transaction do transaction[at].at = at end
      sort(transaction, function(a, b)
        local rank_a, rank_b = RANKS[a.act], RANKS[b.act]
        if rank_a ~= rank_b then return rank_a < rank_b end
        return a.at < b.at
      end)
    end
    for _, group in ipairs(transaction) do
      put_group(out, group)
      remember(group.box, group.val)
      if group.act ~= "set" and group.act ~= "clear" then
        more, status = true, status or status_of(user, group.box, group.act ~= "expunge")
      end
    end
  end
  -- Flags that changed in it are not known, and somebody has come to want them before it had happened: a number is used
  -- up, by which the reader learns that something is missing.
  local misses = transaction.is_deaf and not is_deaf and path
  if misses then
    run = run or random_run()
    seq = seq + 1
  end
  if not out[1] and not misses then return end
  status = status and ',"status":{' .. status .. "}"

  local first, octets = 1, 0
  for at = 1, #out do
    octets = octets + #out[at] + 1
    if octets > EVENTS_MAX and at > first then
      tell(concat(out, ",", first, at - 1))
      if more then announce() end
      first, octets = at, #out[at] + 1
    end
  end
  -- How the mailbox stands belongs to the last, when everything has happened.
  tell(concat(out, ",", first), status)
  if more then announce() end
end

local function begin(user)
  if user.autocreated then return end
  if user.username ~= described_user or user.session_id ~= described_session then describe(user) end
end

-- Runs a hook, and keeps its errors from the mail server.
local function guarded(work, ...)
  local ok, why = pcall(work, ...)
  if not ok then pcall(complain, "the script failed: " .. tostring(why)) end
end

local function message_hook(act)
  return function(transaction, event)
    if transaction.user then guarded(add, transaction, act, event) end
  end
end

local function mailbox_hook(act)
  return function(transaction, event)
    transaction.act, transaction.box, transaction.old = act, event.mailbox, event.mailbox_old
  end
end

---------------------------------------------------------------- what Dovecot calls

function dovecot_lua_notify_begin_txn(user)
  has_looked = false
  guarded(begin, user)
  -- What users that Dovecot made for itself do (owners of shared mailboxes, for example) is nobody's doing.
  return user.autocreated and {} or { user = user, is_deaf = is_deaf }
end

dovecot_lua_notify_event_message_new = message_hook("new")
dovecot_lua_notify_event_message_append = message_hook("append")
dovecot_lua_notify_event_message_expunge = message_hook("expunge")
-- MessageRead and MessageTrash would say \Seen and \Deleted once more, so there is nothing for them.
dovecot_lua_notify_event_flags_set = message_hook("set")
dovecot_lua_notify_event_flags_clear = message_hook("clear")
dovecot_lua_notify_event_mailbox_create = mailbox_hook("create")
dovecot_lua_notify_event_mailbox_delete = mailbox_hook("delete")
dovecot_lua_notify_event_mailbox_rename = mailbox_hook("rename")
dovecot_lua_notify_event_mailbox_subscribe = mailbox_hook("sub")
dovecot_lua_notify_event_mailbox_unsubscribe = mailbox_hook("unsub")

function dovecot_lua_notify_end_txn(transaction, committed)
  has_looked = false
  if committed and transaction.user then guarded(commit, transaction) end
end

function mail_user_created(user)
  has_looked = false
  guarded(function()
    if user.autocreated then return end
    describe(user)
    -- A session that wakes from hibernation logged in long ago.
    if is_session and not user.session_restored then
      tell('{"e":"login"}')
      -- The exporter knows the ports, too.
      if not has_ports then announce() end
    end
  end)
  return 0
end

function mail_user_deinit(user)
  has_looked = false
  guarded(function()
    if is_session and not user.autocreated then
      local secs = now() - (tointeger(user.session_create_time) or now())
      tell(format('{"e":"logout","secs":%d}', secs > 0 and secs or 0))
    end
  end)
  return 0
end

function script_init()
  return 0
end

-- The last of this run. Without it, a run whose process is gone ended on the way.
function script_deinit()
  if not run or not path then return end
  seq = seq + 1
  guarded(put, format('{"v":1,"run":"%s","seq":%d,"pid":%d,"events":[{"e":"bye"}]}\n', run, seq, pid))
end

---------------------------------------------------------------- where Dovecot looks for it

-- Dovecot gathers and calls for each message whose flags change, and does neither where it finds no hook for that. It
-- takes what "_G" names and looks there, without asking anybody. So nothing is called so any more, and who asks for it is
-- given all hooks or all but these. A Dovecot that looks elsewhere (before 2.3.17) always finds all.
do
  local quiet = {}
  for name, value in pairs(globals) do quiet[name] = value end
  quiet.dovecot_lua_notify_event_flags_set, quiet.dovecot_lua_notify_event_flags_clear = nil, nil
  rawset(globals, "_G", nil)
  -- No error may leave this: nobody would catch it.
  setmetatable(globals, {
    __index = function(_, name)
      if name == "_G" then return hides_flags() and quiet or globals end
    end,
  })
end
