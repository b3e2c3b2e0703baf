-- A database as Antiphon 0.1.0 left it: a chain of three whose second is deleted, and one alone.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE item (
	pk INTEGER NOT NULL, 
	owner TEXT NOT NULL, 
	response_id TEXT NOT NULL, 
	dir TEXT NOT NULL, 
	pos INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	type TEXT NOT NULL, 
	doc TEXT NOT NULL, 
	CONSTRAINT pk_item PRIMARY KEY (pk), 
	CONSTRAINT uq_item_response_id_dir_pos UNIQUE (response_id, dir, pos), 
	CONSTRAINT ck_item_dir CHECK (dir IN ('in', 'out')), 
	CONSTRAINT fk_item_response_id FOREIGN KEY(response_id) REFERENCES response (id) ON DELETE CASCADE
);
INSERT INTO "item" VALUES(1,'','resp_1','in',0,'msg_1','message','{"type":"message","role":"user","content":[{"type":"input_text","text":"Hello, it''s me"}],"id":"msg_1","status":"completed"}');
INSERT INTO "item" VALUES(2,'','resp_1','out',0,'msg_2','message','{"id":"msg_2","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Bonjour","annotations":[],"logprobs":[]}]}');
INSERT INTO "item" VALUES(3,'','resp_2','in',0,'msg_3','message','{"type":"message","role":"user","content":[{"type":"input_text","text":"Look"}],"id":"msg_3","status":"completed"}');
INSERT INTO "item" VALUES(4,'','resp_2','out',0,'fc_1','function_call','{"id":"fc_1","type":"function_call","status":"completed","arguments":"{\"at\":\"漢字\"}","call_id":"call_1","name":"look"}');
INSERT INTO "item" VALUES(5,'','resp_3','in',0,'fco_1','function_call_output','{"type":"function_call_output","call_id":"call_1","output":"nothing","id":"fco_1","status":"completed"}');
INSERT INTO "item" VALUES(6,'','resp_3','out',0,'msg_4','message','{"id":"msg_4","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Adieu","annotations":[],"logprobs":[]}]}');
INSERT INTO "item" VALUES(7,'','resp_4','in',0,'msg_5','message','{"type":"message","role":"user","content":[{"type":"input_text","text":"Alone"}],"id":"msg_5","status":"completed"}');
INSERT INTO "item" VALUES(8,'','resp_4','out',0,'msg_6','message','{"id":"msg_6","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Alone","annotations":[],"logprobs":[]}]}');
CREATE TABLE response (
	id TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	status TEXT NOT NULL, 
	model TEXT NOT NULL, 
	previous_response_id TEXT, 
	created_at BIGINT NOT NULL, 
	deleted_at BIGINT, 
	doc TEXT NOT NULL, 
	CONSTRAINT pk_response PRIMARY KEY (id)
);
INSERT INTO "response" VALUES('resp_1','','completed','m',NULL,1700000000,NULL,'{"id":"resp_1","object":"response","created_at":1700000000,"status":"completed","background":false,"completed_at":1700000000,"conversation":null,"error":null,"frequency_penalty":0.0,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,"metadata":{},"model":"m","moderation":null,"output":[],"parallel_tool_calls":true,"presence_penalty":0.0,"previous_response_id":null,"prompt":null,"prompt_cache_key":null,"prompt_cache_retention":null,"reasoning":{"effort":null,"summary":null},"safety_identifier":null,"service_tier":"default","store":true,"temperature":1.0,"text":{"format":{"type":"text"},"verbosity":"medium"},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":1.0,"truncation":"disabled","usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":5},"user":"u1"}');
INSERT INTO "response" VALUES('resp_2','','completed','m','resp_1',1700000000,1795435450,'{"id":"resp_2","object":"response","created_at":1700000000,"status":"completed","background":false,"completed_at":1700000000,"conversation":null,"error":null,"frequency_penalty":0.0,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,"metadata":{},"model":"m","moderation":null,"output":[],"parallel_tool_calls":true,"presence_penalty":0.0,"previous_response_id":"resp_1","prompt":null,"prompt_cache_key":null,"prompt_cache_retention":null,"reasoning":{"effort":null,"summary":null},"safety_identifier":null,"service_tier":"default","store":true,"temperature":1.0,"text":{"format":{"type":"text"},"verbosity":"medium"},"tool_choice":"auto","tools":[{"type":"function","name":"look","parameters":{"type":"object","properties":{"at":{"type":"string"}}},"description":null,"strict":false}],"top_logprobs":0,"top_p":1.0,"truncation":"disabled","usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":5},"user":null}');
INSERT INTO "response" VALUES('resp_3','','completed','m','resp_2',1700000000,NULL,'{"id":"resp_3","object":"response","created_at":1700000000,"status":"completed","background":false,"completed_at":1700000000,"conversation":null,"error":null,"frequency_penalty":0.0,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,"metadata":{},"model":"m","moderation":null,"output":[],"parallel_tool_calls":true,"presence_penalty":0.0,"previous_response_id":"resp_2","prompt":null,"prompt_cache_key":null,"prompt_cache_retention":null,"reasoning":{"effort":null,"summary":null},"safety_identifier":null,"service_tier":"default","store":true,"temperature":1.0,"text":{"format":{"type":"text"},"verbosity":"medium"},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":1.0,"truncation":"disabled","usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":5},"user":null}');
INSERT INTO "response" VALUES('resp_4','','completed','m',NULL,1700000000,NULL,'{"id":"resp_4","object":"response","created_at":1700000000,"status":"completed","background":false,"completed_at":1700000000,"conversation":null,"error":null,"frequency_penalty":0.0,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,"metadata":{"a":"b"},"model":"m","moderation":null,"output":[],"parallel_tool_calls":true,"presence_penalty":0.0,"previous_response_id":null,"prompt":null,"prompt_cache_key":null,"prompt_cache_retention":null,"reasoning":{"effort":null,"summary":null},"safety_identifier":null,"service_tier":"default","store":true,"temperature":1.0,"text":{"format":{"type":"text"},"verbosity":"medium"},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":1.0,"truncation":"disabled","usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":5},"user":null}');
CREATE INDEX ix_response_previous_response_id ON response (previous_response_id) WHERE previous_response_id IS NOT NULL;
CREATE INDEX ix_item_owner_id ON item (owner, id);
COMMIT;
