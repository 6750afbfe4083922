-- What code in a graph can use of Lua. It gets functions of the host, and returns what the host calls.
-- A function of the host returns true and its result, or false and a message: no object of Python gets into Lua.

local host, limit, interval, source_name = ...
local debug, string_dump, load = debug, string.dump, load
local error, getmetatable, ipairs, pairs, pcall = error, getmetatable, ipairs, pairs, pcall
local rawequal, rawget, select, setmetatable = rawequal, rawget, select, setmetatable
local rawnext, sort, table_move, tostring, type = next, table.sort, table.move, tostring, type

-- The bound of instructions. Once it is exceeded, every further instruction raises the error again, so that no pcall
-- around it goes on. C code (patterns, string.rep, __gc) is not counted; the parent ends this process in time.

local n_left, is_over = limit, false
local function count()
    n_left = n_left - interval
    if n_left <= 0 then
        is_over = true
        debug.sethook(count, "", 1)
        error("more than " .. limit .. " instructions", 0)
    end
end

-- Names of the library that are left. Coroutines are not: each would need a counter of its own.

local kept = {
    _G = true, _VERSION = true, assert = true, error = true, getmetatable = true, ipairs = true, next = true,
    pairs = true, pcall = true, rawequal = true, rawget = true, rawlen = true, rawset = true, select = true,
    setmetatable = true, tonumber = true, tostring = true, type = true, xpcall = true,
    math = true, string = true, table = true, utf8 = true,
}
for name in pairs(_G) do
    if not kept[name] then _G[name] = nil end
end
string.dump = nil

-- Tables of Lua have no order, and another one in each process. So pairs goes through numbers and texts in theirs.

local function keys_of(value)
    local numbers, texts, others = {}, {}, {}
    for key in rawnext, value do
        local kind = type(key)
        local list = kind == "number" and numbers or kind == "string" and texts or others
        list[#list + 1] = key
    end
    sort(numbers)
    sort(texts)
    table_move(texts, 1, #texts, #numbers + 1, numbers)
    return table_move(others, 1, #others, #numbers + 1, numbers)
end

function _G.pairs(value)
    local meta = debug.getmetatable(value)
    local own = type(meta) == "table" and rawget(meta, "__pairs")
    if own then return own(value) end
    if type(value) ~= "table" then error("pairs needs a table, not a " .. type(value), 2) end
    local keys, number = keys_of(value), 0
    return function()
        while true do
            number = number + 1
            local key = keys[number]
            if key == nil then return nil end
            local found = rawget(value, key)
            if found ~= nil then return key, found end
        end
    end, value, nil
end

-- JSON has lists and null, which tables of Lua can't tell apart from an empty object and from nothing.

local LIST, OBJECT = {}, {}
local NULL = setmetatable({}, {
    __metatable = false,
    __newindex = function() error("json_null has no fields", 2) end,
    __tostring = function() return "null" end,
})

local function given(ok, ...)
    if not ok then error(..., 3) end
    return ...
end

for _, name in ipairs({"json_parse", "json_stringify", "base64_encode", "base64_decode"}) do
    local call = host[name]
    _G[name] = function(value) return given(call(value)) end
end
for _, name in ipairs({"env", "uuid4", "now_rfc3339", "now_unix_ms"}) do
    local call = host[name]
    _G[name] = function(value) return given(call(value)) end
end

local LEVELS = { trace = "debug", debug = "debug", info = "info", warn = "warning", error = "error" }
local host_log = host.log

function log(...)
    local n, first = select("#", ...), ...
    if n == 0 then error("log needs something to log", 2) end
    local level = n > 1 and LEVELS[first] or nil
    local words = {}
    for number = level and 2 or 1, n do
        local word = (select(number, ...))
        if type(word) == "table" then
            local ok, text = host.json_stringify(word)
            word = ok and text or tostring(word)
        else
            word = tostring(word)
        end
        words[#words + 1] = word
    end
    given(host_log(level or "info", table.concat(words, " ")))
end

print = log
json_null = NULL
function json_array(value)
    if type(value) ~= "table" then error("json_array needs a table", 2) end
    return setmetatable(value, LIST)
end
function json_object(value)
    if type(value) ~= "table" then error("json_object needs a table", 2) end
    return setmetatable(value, OBJECT)
end

-- What a file of a flow sees besides: the flow and the nodes. It notes what is called, and where.

local HANDLER, flows = {}, {}

local function line_of_caller()
    for level = 2, 20 do
        local info = debug.getinfo(level, "Sl")
        if info == nil then return 0 end
        if info.source == source_name and info.currentline > 0 then return info.currentline end
    end
    return 0
end

local function builder_of(step)
    local builder = {}
    local function note(name, keep)
        builder[name] = function(self, ...)
            if self ~= builder then error("write :" .. name .. "(...) with a colon", 2) end
            if keep then
                for number = 1, select("#", ...) do step[name][#step[name] + 1] = (select(number, ...)) end
            else
                step[name] = { select("#", ...), ... }
            end
            return self
        end
    end
    note("depends_on", true)
    for _, name in ipairs({"retries", "timeout", "route", "on_error", "context_keys"}) do note(name) end
    return builder
end

local function add_step(flow, name, handler, condition)
    local step = { line = line_of_caller(), name = name, condition = condition, depends_on = setmetatable({}, LIST) }
    if type(handler) == "function" then
        step.kind, step.config = "function", { source = handler }
    elseif type(handler) == "table" and rawequal(getmetatable(handler), HANDLER) then
        step.kind, step.config = handler.kind, handler.config
    else
        error("the step " .. tostring(name) .. " needs nodes.KIND{...} or a function", 2)
    end
    flow.steps[#flow.steps + 1] = step
    return builder_of(step)
end

local function allow_flows()
    Flow = {
        new = function(name)
            local flow = { name = name, steps = setmetatable({}, LIST) }
            local face = {
                step = function(_, step, handler) return add_step(flow, step, handler) end,
                step_if = function(_, condition, step, handler) return add_step(flow, step, handler, condition) end,
            }
            flows[face] = flow
            return face
        end,
    }
    nodes = setmetatable({}, {
        __index = function(_, kind)
            return function(config) return setmetatable({ kind = kind, config = config }, HANDLER) end
        end,
    })
end

-- What the host calls. Errors are told as a text, without calling anything of theirs.

local function told(problem)
    if type(problem) == "string" then return problem end
    if type(problem) == "table" and type(rawget(problem, "message")) == "string" then return rawget(problem, "message") end
    return "an error that is a " .. type(problem)
end

-- It runs in the main thread of Lua: functions of the host that are called in another one would use this one's stack.
-- If the bound is exceeded, the counter raises its error here, too; the host takes that as the end.
local function run(f, ...)
    debug.sethook(count, "", interval)
    local ok, value = pcall(f, ...)
    debug.sethook()
    if ok then return "value", value end
    return value == "not enough memory" and "limit" or "error", told(value)
end

local function compiled(text, name)
    local f = load("return " .. text, name, "t")
    if f then return f, true end
    return load(text, name, "t")
end

return {
    NULL = NULL,
    flow_of = function(value) return type(value) == "table" and flows[value] or nil end,
    is_null = function(value) return rawequal(value, NULL) end,
    is_list = function(value) return rawequal(debug.getmetatable(value), LIST) end,
    as_list = function(value) return setmetatable(value, LIST) end,
    allow_flows = allow_flows,
    load = function(text, name) return load(text, name, "t") end,
    compiled = compiled,
    run = run,
    is_callable = function(value) return type(value) == "function" end,
    set_global = function(name, value) _G[name] = value end,
    function_info = function(f)
        local info = debug.getinfo(f, "S")
        local captured = {}
        for number = 1, 255 do
            local name = debug.getupvalue(f, number)
            if name == nil then break end
            if name ~= "_ENV" then captured[#captured + 1] = name end
        end
        return info.source, info.linedefined, info.lastlinedefined, table.concat(captured, ", ")
    end,
    dump = function(f) return string_dump(f, true) end,
}
